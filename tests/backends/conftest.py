"""Every provider of servers in turn: processes and containers, Redis and Valkey, each version that is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from extras import engine_needed, server_needed

from pytest_celery_chaos.brokers.find import NAMES, available, find
from pytest_celery_chaos.brokers.server import RedisServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.session import Session

#: Those that tests/images/build makes where none can be pulled.
IMAGES = ("valkey/valkey:8.1", "redis:8.0", "valkey/valkey:8.0", "redis:7.0")
Make = Callable[..., RedisServer]


@dataclass(frozen=True)
class Provided:
    """A provider, and which server it is asked for.

    :param name: ``valkey-9.1``, or an image.
    """

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}-{self.name}"

    def spec(self, name: str, **more: Any) -> BrokerSpec:
        if self.provider == "container":
            server = "valkey" if self.name.startswith("valkey") else "redis"
            return BrokerSpec(name=name, server=server, image=self.name, **more)  # type: ignore[arg-type]
        server, _, version = self.name.partition("-")
        return BrokerSpec(name=name, server=server, version=version, provider="local", **more)  # type: ignore[arg-type]


def _of_packages() -> list[str]:
    return [f"{binary.server}-{binary.version}" for binary in available() if binary.source == "PATH"]


PROVIDERS = [
    *(Provided("local", name) for name in dict.fromkeys([*NAMES, *_of_packages()])),
    *(Provided("container", image) for image in IMAGES),
]


@pytest.fixture(params=PROVIDERS, ids=str, scope="module")
def provided(request: pytest.FixtureRequest) -> Provided:
    """Each in turn; one that is not here is skipped, and fails in CI."""
    wanted: Provided = request.param
    if wanted.provider == "container":
        engine_needed(wanted.name)
    else:
        server, _, version = wanted.name.partition("-")
        with server_needed():
            find(server, version)  # type: ignore[arg-type]
    return wanted


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session(tmp_path_factory.mktemp("store"))
    yield session
    session.close()


@pytest.fixture
def make(session: Session, provided: Provided, tmp_path: Path) -> Iterator[Make]:
    """Make a server, not started; all of them are closed at the end."""
    made: list[RedisServer] = []

    def make(name: str = "main", on_exit: Any = None, **spec: Any) -> RedisServer:
        server = session.provide(
            provided.spec(name, **spec), tmp_path / name, tmp_path / f"{name}.log", on_exit=on_exit
        )
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def launch(make: Make) -> Make:
    """Make a server and start it."""

    def launch(name: str = "main", **spec: Any) -> RedisServer:
        server = make(name, **spec)
        server.start()
        return server

    return launch
