"""What the documentation says of the visibility timeout, where the worker does not live to show it in a scenario."""

from __future__ import annotations

from pathlib import Path

from extras import need_server

from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.runner import run_plan
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.workers.spec import WorkerSpec


def test_b2_a_timeout_that_is_a_text_ends_the_worker_at_its_start(tmp_path: Path) -> None:
    """An environment variable that is passed on as it is read, say."""
    need_server()
    session = Session(tmp_path)
    options = {"visibility_timeout": "3600"}
    worker = WorkerSpec("a", pool="solo", profile="fast")
    try:
        verdict, run = run_plan(
            Plan("text", config={"broker_transport_options": options}, workers={"a": worker}), session
        )
    finally:
        session.close()
    assert verdict.value != "holds"
    history = History.load(run.folder.path)
    (line,) = (str(event.attrs["line"]) for event in history.of("critical"))
    assert "TypeError(\"unsupported operand type(s) for -: 'float' and 'str'\")" in line
    (gone,) = (event for event in history.of("offline") if event.role == "worker")
    assert gone.attrs["code"] == 1
