"""Scenarios as text, run on real servers, with their verdicts and histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from extras import need_server

from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import run_plan
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Judgement, Verdict
from pytest_celery_chaos.scenario.compile import compile_scenario
from pytest_celery_chaos.scenario.read import scenario_of


@dataclass(frozen=True)
class Ran:
    """A scenario that was run."""

    verdict: Verdict
    run: Run
    history: History

    def of(self, check: str) -> Judgement:
        """What one check says."""
        return next(each for each in self.verdict.judgements if each.check == check)

    def events(self, source: str, *kinds: str) -> list[Event]:
        """Events of these kinds, by one process."""
        return [event for event in self.history.events if event.source == source and event.kind in kinds]

    @property
    def folder(self) -> Path:
        return self.run.folder.path

    def __repr__(self) -> str:
        told = [f"{each.check}: {each.outcome}: {each.why}" for each in self.verdict.judgements]
        return "\n".join([*told, str(self.folder)])


def run_text(session: Session, text: str) -> Ran:
    """Run a scenario whose profile is `fast` and whose title is given."""
    (plan,) = compile_scenario(scenario_of(f"scenario: t\nprofile: fast\n{text}", "t.chaos.yaml"))
    verdict, run = run_plan(plan, session)
    return Ran(verdict, run, History.load(run.folder.path))


Runs = Callable[[str], Ran]


@pytest.fixture(scope="session")
def live_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One keeper for all runs; without a server the tests are skipped, and in CI they fail."""
    need_server()
    session = Session(tmp_path_factory.mktemp("runs"))
    yield session
    session.close()


@pytest.fixture
def runs(live_session: Session) -> Runs:
    return lambda text: run_text(live_session, text)
