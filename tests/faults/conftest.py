"""An environment to break, and plain Redis reads to see from outside what a fault has done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from celery import Celery
from extras import engine_needed, server_needed
from live import live_session, runs

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.interactive import start
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.runner import finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.workers.spec import WorkerSpec

#: The newest server and the oldest: where their commands differ, both are broken.
SERVERS = ("valkey-9.1", "redis-6.2")


class Stage:
    """A run under way that a test breaks with ``chaos.VERB(…)``, and what can be seen of it from outside."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos, self.run = chaos, chaos.run

    @property
    def broker(self) -> Any:
        return self.run.broker("main")

    def outside(self, db: int = 0, **options: Any) -> redis.Redis:
        """A connection like any application's: not the harness's."""
        address = {"host": self.broker.host, "port": self.broker.port, "password": self.broker.password}
        return redis.Redis(db=db, **{"socket_timeout": 10, "retry": None, **address, **options})  # type: ignore[arg-type]

    def app(self) -> Celery:
        """An application of the test's own on the same broker and backend."""
        app = Celery("outside", set_as_current=False, broker=self.broker.url(0), backend=self.broker.url(1))
        app.conf.worker_hijack_root_logger = False
        return app

    def publish(self, task: str = "add", **options: Any) -> str:
        """Send a task from outside; returns its id."""
        app = self.app()
        try:
            return str(app.send_task(task, **options).id)
        finally:
            app.close()

    def told(self, verb: str) -> dict[str, Any]:
        """What the last step of *verb* wrote beside its outcome."""
        events = [e for e in self.chaos.history.of("fault", "ok") if e.attrs.get("verb") == verb]
        return dict(events[-1].attrs)


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session(tmp_path_factory.mktemp("runs"))
    yield session
    session.close()


def spec_of(server: str, **broker: Any) -> BrokerSpec:
    """The broker *server* (``valkey-9.1``, or an image); without it the test is skipped, and in CI it fails."""
    if ":" in server:
        engine_needed(server)
        return BrokerSpec(server="valkey" if server.startswith("valkey") else "redis", image=server, **broker)
    kind, _, version = server.partition("-")
    with server_needed():
        find(kind, version)  # type: ignore[arg-type]
    return BrokerSpec(server=kind, version=version, **broker)  # type: ignore[arg-type]


SetUp = Callable[..., Stage]


@pytest.fixture(scope="module")
def set_up(session: Session) -> Iterator[SetUp]:
    """Start an environment: without workers, unless they are asked for. It ends with the module."""
    begun: list[Chaos] = []

    def set_up(
        *, server: str = SERVERS[0], workers: Sequence[WorkerSpec] = (), plan: Any = None, **broker: Any
    ) -> Stage:
        described = Plan(
            "faults",
            broker=spec_of(server, **broker),
            workers={each.name: each for each in workers},
            **(plan or {}),
        )
        begun.append(start(described, session))
        return Stage(begun[-1])

    yield set_up
    for chaos in begun:  # unhealed: nobody needs any of it again
        finish(chaos.run, session)


@pytest.fixture(params=SERVERS, scope="module")
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def solo(name: str = "a", **more: Any) -> WorkerSpec:
    """A worker that starts fast."""
    return WorkerSpec(name, **{"pool": "solo", "profile": "fast", **more})


__all__ = ["live_session", "runs"]
