"""The run behind the ``chaos`` fixture: begun before the test's own code, judged after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import conclude as judge_run
from pytest_celery_chaos.engine.runner import failed, finish, settle
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ChaosError
from pytest_celery_chaos.history.verdict import Verdict


def begin(
    session: Session,
    *,
    title: str,
    app: str,
    server: str | None,
    pool: str | None,
    declared: Mapping[str, Any],
    client: str | None = None,
) -> Chaos:
    """Start the environment that *declared* describes (the arguments of the ``chaos`` marker), and wait for it.

    :raises UsageError: the marker says something that a scenario file could not say.
    :raises StartFailed: something did not come up; nothing is left of it.
    """
    from pytest_celery_chaos.scenario.declared import declared_plan

    said = {"app": app, "workers": {"a": {}}, **declared}
    plan = declared_plan(said, title=title, server=server, pool=pool, client=client)
    # The test's own process is a client of its application, and most tests need no other one.
    spare = next(iter(plan.clients)) if app != "builtin" and "clients" not in declared else None
    return start(plan, session, on_demand=spare)


def start(plan: Plan, session: Session, *, on_demand: str | None = None) -> Chaos:
    """Begin a run of *plan*, bind its application, and wait until all is ready.

    :param on_demand: a client that is started when it is first asked for.
    """
    run = Run(plan, session)
    chaos = Chaos(run)
    chaos.session = session
    run.environment.on_demand = on_demand
    try:
        run.environment.start()
        run.measure("start")
        if plan.app != "builtin":
            from pytest_celery_chaos.clients.rebind import Rebound

            chaos.rebound = Rebound(
                plan.app,
                run.environment.settings({}),
                ledgers=run.folder.ledgers,
                control=run.environment.control,
            )
            chaos.rebound.__enter__()
    except BaseException as error:
        end(chaos, judged=isinstance(error, Exception))
        raise
    return chaos


def conclude(chaos: Chaos) -> tuple[Verdict, Path]:
    """The test's code is through: heal, wait for quiet, end everything, judge."""
    run = chaos.run
    try:
        settle(run)
    except Exception as error:
        failed(run, error)
    _finish(chaos)
    run.plan = replace(run.plan, expect=chaos.expect.expectations)
    run.folder.write("plan.json", run.plan.to_record())
    return judge_run(run, chaos.session), run.folder.path


def end(chaos: Chaos, *, judged: bool = True) -> None:
    """End what is still there: the run of a test that failed by itself is inconclusive.

    :param judged: False leaves the run unfinished: it was interrupted.
    """
    if not chaos.finished:
        run = chaos.run
        try:
            run.heal()
        except ChaosError as error:
            run.live.emit("error", error=f"while healing: {error}")
        run.live.emit("error", error="the test did not come to its end")
        _finish(chaos)
        if judged:
            judge_run(run, chaos.session)


def _finish(chaos: Chaos) -> None:
    chaos.finished = True
    if chaos.rebound is not None:
        chaos.rebound.__exit__(None, None, None)
        chaos.rebound = None
    finish(chaos.run, chaos.session)
