"""The public fixtures. Importing this module costs nothing: what they need is imported when one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.engine.chaos import Chaos
    from pytest_celery_chaos.history.log import History
    from pytest_celery_chaos.history.verdict import Verdict


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Break this test's own broker and real Celery workers, and have the history judged when the test ends.

    ``@pytest.mark.chaos(workers={"a": {}}, broker={"server": "valkey"}, config={…})`` says what is started; without
    it one prefork worker ``a`` runs the application of the ini option ``chaos_app``. The verbs of a scenario file are
    methods: ``chaos.kill(worker="a", when={"before": "ack", "task": result})``.
    """
    from pytest_celery_chaos.engine.interactive import begin, end
    from pytest_celery_chaos.plugin import CHAOS, client_of, session_of

    marker = request.node.get_closest_marker("chaos")
    config = request.config
    session = session_of(config)
    started = begin(
        session,
        title=request.node.nodeid,
        app=config.getini("chaos_app") or "builtin",
        server=config.getoption("--chaos-server") or config.getini("chaos_server") or None,
        pool=config.getoption("--chaos-pool"),
        client=client_of(config),
        declared=marker.kwargs if marker else {},
    )
    request.node.stash[CHAOS] = started
    try:
        yield started
    finally:
        end(started, judged=not session.interrupted)


@pytest.fixture
def chaos_app(chaos: Chaos) -> Any:
    """Your Celery application (ini option ``chaos_app``), bound to the test's broker until the test ends.

    Your own code's ``task.delay()`` reaches the chaos broker and is recorded; publishing anywhere else is an error.
    """
    return chaos.app


@pytest.fixture
def chaos_broker(chaos: Chaos) -> RedisServer:
    """The test's Redis or Valkey server: ``url(db)``, ``port``, ``client(db)``, ``alive``, ``version``."""
    return chaos.run.broker("main")


@pytest.fixture
def chaos_history(chaos: Chaos) -> Callable[[], History]:
    """Call it for what has happened so far: ``chaos_history().of("started", task=result.id)``."""
    return lambda: chaos.history


def conclude_chaos(chaos: Chaos) -> tuple[Verdict, Path]:
    """Heal, wait for quiet, end the processes and judge; called when the test's own code is through."""
    from pytest_celery_chaos.engine.interactive import conclude

    return conclude(chaos)
