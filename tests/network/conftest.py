"""Servers, a proxy before them, and clients that are nothing but sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from extras import missing, server_needed
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import ServerNotFound
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.ledger import Tail
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.network.toxiproxy import Toxiproxy
from pytest_celery_chaos.system.keeper import Keeper

SERVERS = ("redis-6.2", "valkey-9.1")


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture(params=SERVERS, scope="session")
def server(request: pytest.FixtureRequest, keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The oldest server and the newest; where they are missing the test is skipped, and fails in CI."""
    kind, _, version = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    with server_needed():
        made = LocalServer(BrokerSpec(server=kind, version=version), keeper, folder / "data", folder / "log")
    made.start()
    yield made
    made.close()


class Wired:
    """A proxy with one link, ``a``, to a server, and what can be seen from outside."""

    def __init__(self, proxy: Proxy, server: LocalServer, ledgers: Path, upstream: Any) -> None:
        self.proxy, self.server = proxy, server
        self.port = proxy.link("a", upstream)
        self._tail, self._events = Tail(ledgers), list[Event]()
        self._clients: list[Any] = []

    def client(self, **options: Any) -> Any:
        """redis-py through the link; it tries nothing again."""
        made = redis.Redis(
            port=self.port,
            single_connection_client=True,
            **{"socket_timeout": 5, "retry": Retry(NoBackoff(), 0), "client_name": None, **options},
        )
        self._clients.append(made)
        return made

    def direct(self, db: int = 0) -> Any:
        """A client past the proxy."""
        return self.server.client(db)

    def socket(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self._clients.append(made)
        return made

    def events(self) -> list[Event]:
        self._events += self._tail.read()
        return self._events

    def units(self, kind: str | None = None) -> list[tuple[str, str | None]]:
        """(kind, phase) of what was told of units."""
        return [(e.kind, e.phase) for e in self.events() if e.kind.startswith(kind or "wire_")]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._tail.close()


@pytest.fixture
def wired(keeper: Keeper, server: LocalServer, tmp_path: Path) -> Iterator[Wired]:
    server.client(0).flushall()
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir()
    with Proxy(keeper, tmp_path, ledgers) as proxy:
        wired = Wired(proxy, server, ledgers, str(server.socket_path))
        yield wired
        assert proxy.alive, proxy.log.read_text()
        assert proxy.log.read_text() == "", "nobody complains in its log"
        wired.close()


@pytest.fixture
def took() -> Callable[[Callable[[], Any]], float]:
    """Seconds that something takes."""

    def took(do: Callable[[], Any]) -> float:
        began = time.monotonic()
        do()
        return time.monotonic() - began

    return took


class Echo:
    """A server that says again what it hears."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self.ended: list[float] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass
        self.ended.append(time.monotonic())
        connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts, and would keep it open
        self.listener.close()
        for each in self.accepted:
            each.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


class Line:
    """A proxy before an echo."""

    def __init__(self, proxy: Any, echo: Echo) -> None:
        self.proxy, self.echo = proxy, echo
        self.port = proxy.link("e", ("127.0.0.1", echo.port))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def trip(self, sock: socket.socket, data: bytes = b"+x\r\n") -> bytes:
        sock.sendall(data)
        return read(sock, len(data))


@pytest.fixture
def resp_line(keeper: Keeper, tmp_path: Path, echo: Echo) -> Iterator[Line]:
    """Our own proxy before an echo."""
    with Proxy(keeper, tmp_path) as proxy:
        yield Line(proxy, echo)
        assert proxy.log.read_text() == ""


@pytest.fixture
def toxiproxy(keeper: Keeper, tmp_path: Path) -> Iterator[Toxiproxy]:
    """Real Toxiproxy; where it is missing the test is skipped, and fails in CI."""
    try:
        made = Toxiproxy(keeper, tmp_path)
    except ServerNotFound as error:
        missing(str(error))
    with made:
        yield made


@pytest.fixture(params=["resp", "toxiproxy"])
def line(request: pytest.FixtureRequest, echo: Echo) -> Line:
    if request.param == "toxiproxy":
        return Line(request.getfixturevalue("toxiproxy"), echo)
    found: Line = request.getfixturevalue("resp_line")
    return found


def read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := sock.recv(min(65536, size - len(found)))):
        found += data
    return found


def until_eof(sock: socket.socket) -> bytes:
    """All that is still said, until FIN; RST raises ConnectionResetError."""
    found = b""
    while data := sock.recv(65536):
        found += data
    return found
