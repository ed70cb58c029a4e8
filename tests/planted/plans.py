"""Plans by hand, and workers with a bug planted in them by ``celery worker --include``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_celery_chaos.engine.plan import Expectation, Moment, Plan, Step
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import run_plan
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.faults import FAULTS
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Judgement, Verdict
from pytest_celery_chaos.workers.spec import WorkerSpec

BUGS = Path(__file__).parent / "bugs"
#: A message that nobody acknowledges comes back after a second, and a sweep.
SOON = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}


def worker(name: str = "a", *, bug: str | None = None, **more: Any) -> WorkerSpec:
    """A worker that starts fast, with a bug of ``bugs/`` in it."""
    path = os.pathsep.join([str(BUGS), os.environ.get("PYTHONPATH", "")])
    options = [*more.pop("options", ()), *(["--include", bug] if bug else [])]
    return WorkerSpec(name, **{"profile": "fast", "options": options, "env": {"PYTHONPATH": path}, **more})


def step(verb: str, *, name: str | None = None, when: Moment | None = None, **args: Any) -> Mapping[str, Any]:
    """A step, not numbered yet."""
    family = "fault" if verb in FAULTS else "workload"
    return {"verb": verb, "family": family, "args": args, "name": name, "when": when}


def plan(
    title: str,
    workers: Sequence[WorkerSpec],
    steps: Sequence[Mapping[str, Any]],
    *expect: Expectation,
    config: Mapping[str, Any] | None = None,
    **more: Any,
) -> Plan:
    """A plan with late acknowledgement."""
    return Plan(
        title,
        config={"task_acks_late": True, "broker_transport_options": SOON, **(config or {})},
        workers={each.name: each for each in workers},
        steps=[Step(index, **each) for index, each in enumerate(steps, 1)],
        expect=expect,
        **more,
    )


@dataclass(frozen=True)
class Outcome:
    """A plan that was run."""

    verdict: Verdict
    run: Run
    history: History

    def of(self, check: str) -> Judgement:
        """What one check says."""
        return next(each for each in self.verdict.judgements if each.check == check)

    def ids(self, task: str) -> Sequence[str]:
        return self.history.ids(task)

    def story(self) -> str:
        """All judgements, for messages."""
        return "\n".join([*(f"{j.check}: {j.outcome}: {j.why}" for j in self.verdict.judgements), str(self.folder)])

    @property
    def folder(self) -> Path:
        return self.run.folder.path


def carried_out(plan: Plan, session: Session) -> Outcome:
    """Run *plan* and judge it."""
    verdict, run = run_plan(plan, session)
    return Outcome(verdict, run, History.load(run.folder.path))
