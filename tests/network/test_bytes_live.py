"""Faults of bytes, the half-open connection, large values, many operations: with plain sockets, from outside."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Keeper

from .conftest import until_eof

Took = Callable[[Callable[[], Any]], float]


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

    def __init__(self, proxy: Proxy, echo: Echo) -> None:
        self.proxy, self.echo = proxy, echo
        self.port = proxy.link("e", ("127.0.0.1", echo.port))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def trip(self, sock: socket.socket, data: bytes = b"+x\r\n") -> bytes:
        sock.sendall(data)
        return read(sock, len(data))


def read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := sock.recv(min(65536, size - len(found)))):
        found += data
    return found


@pytest.fixture
def line(keeper: Keeper, tmp_path: Path, echo: Echo) -> Iterator[Line]:
    with Proxy(keeper, tmp_path) as proxy:
        yield Line(proxy, echo)
        assert proxy.log.read_text() == ""


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_on_old_and_new_connections_until_it_is_removed(line: Line, took: Took, stream: Any) -> None:
    old = line.connect()
    assert took(lambda: line.trip(old)) < 0.15
    name = line.proxy.toxic("latency", latency=200, stream=stream)
    assert 0.2 <= took(lambda: line.trip(old)) < 1
    assert 0.2 <= took(lambda: line.trip(line.connect())) < 1
    line.proxy.remove_toxic(name)
    assert took(lambda: line.trip(old)) < 0.15


def test_what_a_toxic_holds_goes_on_when_it_is_removed(line: Line, took: Took) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.toxic("latency", latency=60_000)
    line.proxy.toxic("bandwidth", rate=0)
    sock.sendall(b"abc")
    sock.shutdown(socket.SHUT_WR)
    wait.until(lambda: len(line.echo.ended) == 1, what="the echo to hear the end", timeout=5)
    line.proxy.remove_toxic("latency_downstream")
    line.proxy.remove_toxic("bandwidth_downstream")
    assert until_eof(sock) == b"abc"


def test_jitter_keeps_the_order(line: Line) -> None:
    sock = line.connect()
    line.proxy.toxic("latency", latency=10, jitter=10)
    line.proxy.toxic("latency", latency=10, jitter=10, stream="upstream")
    sent = b""
    for number in range(50):
        sent += b"%04d" % number
        sock.sendall(b"%04d" % number)
        time.sleep(0.002)
    assert read(sock, len(sent)) == sent


def test_bandwidth(line: Line, took: Took) -> None:
    sock, data = line.connect(), b"x" * 50_000
    line.proxy.toxic("bandwidth", rate=100)
    assert 0.4 < took(lambda: line.trip(sock, data)) < 1.5


def test_slicer(line: Line) -> None:
    sock, data = line.connect(), bytes(range(256)) * 8
    line.proxy.toxic("slicer", average_size=64, size_variation=32, delay=1000)
    sock.sendall(data)
    pieces = []
    while sum(map(len, pieces)) < len(data):
        pieces.append(sock.recv(65536))
    assert b"".join(pieces) == data
    assert len(pieces) > 8


def test_slow_close(line: Line, took: Took) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.toxic("slow_close", delay=300)
    sock.shutdown(socket.SHUT_WR)
    assert 0.3 <= took(lambda: until_eof(sock)) < 2


@pytest.mark.parametrize("milliseconds", [0, 200])
def test_timeout_loses_what_comes_and_ends_the_connection(line: Line, took: Took, milliseconds: int) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.toxic("timeout", timeout=milliseconds)
    sock.sendall(b"abc")
    if milliseconds:
        assert 0.2 <= took(lambda: until_eof(sock)) < 2
    else:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        line.proxy.remove_toxic("timeout_downstream")
        assert until_eof(sock) == b""


def test_reset_peer(line: Line) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.toxic("reset_peer", timeout=50)
    sock.sendall(b"abc")
    with pytest.raises(ConnectionResetError):
        until_eof(sock)


def test_limit_data(line: Line) -> None:
    line.proxy.toxic("limit_data", bytes=10)
    sock = line.connect()
    sock.sendall(b"0123456789abcdef")
    assert until_eof(sock) == b"0123456789"


def test_toxicity_falls_on_some_connections_only(line: Line) -> None:
    line.proxy.toxic("limit_data", bytes=1, toxicity=0.5)
    said = []
    for _ in range(40):
        sock = line.connect()
        sock.sendall(b"ab")
        said.append(read(sock, 2))
        sock.close()
    assert {b"a", b"ab"} == set(said)


def test_down_refuses_and_up_accepts_on_the_same_port(line: Line) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.down()
    with pytest.raises(ConnectionResetError):
        until_eof(sock)
    with pytest.raises(ConnectionRefusedError):
        line.connect()
    line.proxy.up()
    assert line.trip(line.connect()) == b"+x\r\n"


def test_a_server_that_is_not_there(line: Line) -> None:
    line.echo.close()
    with pytest.raises(ConnectionResetError):
        until_eof(line.connect())


@pytest.mark.parametrize("stream", ["both", "upstream", "downstream"])
def test_freeze_keeps_the_sockets_and_thaw_loses_nothing(line: Line, stream: Any) -> None:
    old = line.connect()
    line.trip(old)
    line.proxy.freeze(stream=stream)
    old.sendall(b"abc")
    old.settimeout(0.3)
    with pytest.raises(TimeoutError):
        old.recv(10)
    assert line.trip(line.connect()) == b"+x\r\n", "new ones are not meant"
    assert line.proxy.connections()[0]["frozen"]
    line.proxy.thaw()
    old.settimeout(5)
    assert read(old, 3) == b"abc"


def test_freeze_new_connections_only(line: Line) -> None:
    old = line.connect()
    line.trip(old)
    line.proxy.freeze(old=False, new=True)
    assert line.trip(old) == b"+x\r\n"
    new = line.connect()
    new.sendall(b"abc")
    new.settimeout(0.3)
    with pytest.raises(TimeoutError):
        new.recv(10)
    line.proxy.thaw()
    new.settimeout(5)
    assert read(new, 3) == b"abc"


def test_of_a_frozen_connection_not_even_its_end_gets_through(line: Line) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.freeze()
    sock.close()
    [still] = line.proxy.connections()
    assert still["frozen"] == ["upstream", "downstream"]
    assert not line.echo.ended
    line.proxy.thaw()
    wait.until(lambda: len(line.echo.ended) == 1, what="the end to get through", timeout=5)


def test_cut_some_and_one_side(line: Line) -> None:
    socks = [line.connect() for _ in range(3)]
    for sock in socks:
        line.trip(sock)
    numbers = {each["client"]: each["conn"] for each in line.proxy.connections()}
    assert line.proxy.cut(numbers=[numbers[socks[0].getsockname()[1]]]) == 1
    with pytest.raises(ConnectionResetError):
        until_eof(socks[0])
    assert line.trip(socks[1]) == b"+x\r\n"
    assert line.proxy.cut(numbers=[numbers[socks[1].getsockname()[1]]], how="fin", side="server") == 1
    wait.until(lambda: len(line.echo.ended) == 2, what="the server to hear the end", timeout=5)
    socks[1].settimeout(0.2)
    with pytest.raises(TimeoutError):
        socks[1].recv(10)
    assert line.trip(socks[2]) == b"+x\r\n"


def test_wrong_toxics_are_refused(line: Line) -> None:
    with pytest.raises(UsageError):
        line.proxy.toxic("gravity")
    with pytest.raises(UsageError):
        line.proxy.toxic("latency", bytes=1)
    line.proxy.toxic("latency", latency=1)
    with pytest.raises(UsageError):
        line.proxy.toxic("latency", latency=2)
