"""Both clients in turn, against each Valkey that is here; nothing of redis-py may connect where valkey-py is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.connection
from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from extras import need_valkey, server_needed
from kombu import Connection, transport

from pytest_celery_chaos import valkey
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.system.keeper import Keeper

VERSIONS = ("9.1", pytest.param("8.1", marks=pytest.mark.soak))
Connect = Callable[..., Connection]


@pytest.fixture(scope="package", autouse=True)
def installed() -> Iterator[None]:
    """In this process, and only for these tests: others show what kombu and Celery are without it."""
    need_valkey()
    tables = (transport.TRANSPORT_ALIASES, transport._transport_cache, BACKEND_ALIASES)
    before = [dict(table) for table in tables]
    valkey.install()
    yield
    for table, was in zip(tables, before, strict=True):
        table.clear()
        table.update(was)


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture(scope="module")
def launch(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalServer]]:
    """Start a server of one's own."""
    started: list[LocalServer] = []

    def launch(version: str | None = None, **options: str) -> LocalServer:
        folder = tmp_path_factory.mktemp("server")
        spec = BrokerSpec(server="valkey", version=version, options=options)
        with server_needed():
            server = LocalServer(spec, keeper, folder, folder / "log")
        server.start()
        started.append(server)
        return server

    yield launch
    for server in started:
        server.close()


@pytest.fixture(scope="module", params=VERSIONS)
def running(request: pytest.FixtureRequest, launch: Callable[..., LocalServer]) -> LocalServer:
    return launch(request.param)


@pytest.fixture
def server(running: LocalServer) -> LocalServer:
    client = running.client(0)
    client.flushall()
    for kind in ("normal", "pubsub"):  # what earlier tests have left open would be among those that a test counts
        client.client_kill_filter(_type=kind, skipme=True)
    return running


@pytest.fixture(scope="module", params=("redis", "valkey"))
def scheme(request: pytest.FixtureRequest) -> str:
    """The client library, by the scheme of its addresses."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_other_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With valkey-py, the only connections of redis-py are those of the harness that looks at the server."""
    if "scheme" not in request.fixturenames or request.getfixturevalue("scheme") == "redis":
        return
    original = redis.connection.AbstractConnection.connect

    def connect(self: Any) -> Any:
        assert self.client_name == "celery-chaos", f"redis-py connects: {self!r}"
        return original(self)

    monkeypatch.setattr(redis.connection.AbstractConnection, "connect", connect)


def address(server: LocalServer, scheme: str, db: int = 0) -> str:
    return f"{scheme}://{server.host}:{server.port}/{db}"


@pytest.fixture
def connect(server: LocalServer, scheme: str) -> Iterator[Connect]:
    """Connect to the server's database 0 as a broker, with transport options."""
    made: list[Connection] = []

    def connect(url: str | None = None, **options: Any) -> Connection:
        made.append(Connection(url or address(server, scheme), transport_options=options))
        return made[-1]

    yield connect
    for each in made:
        each.release()


@pytest.fixture
def app(server: LocalServer, scheme: str) -> Iterator[Celery]:
    app = Celery("shop", broker=address(server, scheme), backend=address(server, scheme, 1), set_as_current=False)
    yield app
    leave_results_alone(app.backend)
    app.close()
