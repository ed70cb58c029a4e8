"""Faults of bytes by Toxiproxy's names behave alike in our proxy and in real Toxiproxy: one suite for both."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.errors import ProxyGone, ServerNotFound, UsageError
from pytest_celery_chaos.network.toxiproxy import ENVIRONMENT, Toxiproxy, find

from .conftest import Echo, Line, read, until_eof

Took = Callable[[Callable[[], Any]], float]


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_on_old_and_new_connections_until_it_is_removed(line: Line, took: Took, stream: Any) -> None:
    old = line.connect()
    assert took(lambda: line.trip(old)) < 0.15
    name = line.proxy.toxic("latency", latency=200, stream=stream)
    assert 0.2 <= took(lambda: line.trip(old)) < 1
    assert 0.2 <= took(lambda: line.trip(line.connect())) < 1
    line.proxy.remove_toxic(name)
    assert took(lambda: line.trip(old)) < 0.15


@pytest.mark.parametrize(("toxic", "attributes"), [("latency", {"latency": 60_000}), ("bandwidth", {"rate": 0})])
def test_what_a_toxic_holds_goes_on_when_it_is_removed(line: Line, toxic: str, attributes: Any) -> None:
    sock = line.connect()
    line.trip(sock)
    name = line.proxy.toxic(toxic, **attributes)
    sock.sendall(b"abc")
    sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        sock.recv(10)
    sock.settimeout(5)
    line.proxy.remove_toxic(name)
    assert read(sock, 3) == b"abc"


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


def test_slicer(line: Line, took: Took) -> None:
    said = list[bytes]()
    sock, data = line.connect(), bytes(range(256)) * 8
    line.proxy.toxic("slicer", average_size=64, size_variation=32, delay=10_000)
    # 21 pieces of 96 bytes at least; how many of them one recv() brings depends on when the reader is let run.
    assert took(lambda: said.append(line.trip(sock, data))) >= 0.2
    assert said == [data]


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
    old = line.connect()
    line.trip(old)
    line.proxy.toxic("reset_peer", timeout=50)
    new = line.connect()
    for sock in (old, new):
        sock.sendall(b"abc")
    with pytest.raises(ConnectionResetError):
        until_eof(new)
    assert ended(old), "real Toxiproxy closes it: its link.go sets SO_LINGER when a connection starts"


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


def test_wrong_toxics_are_refused(line: Line) -> None:
    with pytest.raises(UsageError):
        line.proxy.toxic("gravity")
    with pytest.raises(UsageError):
        line.proxy.toxic("latency", bytes=1)
    line.proxy.toxic("latency", latency=1)
    with pytest.raises(UsageError):
        line.proxy.toxic("latency", latency=2)


def ended(sock: socket.socket) -> bool:
    """Whether the connection ends, in whichever way, and says nothing before."""
    try:
        return until_eof(sock) == b""
    except ConnectionResetError:
        return True


def test_down_refuses_and_up_accepts_on_the_same_port(line: Line) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.down()
    assert ended(sock)
    with pytest.raises(ConnectionRefusedError):
        line.connect()
    line.proxy.up()
    assert line.trip(line.connect()) == b"+x\r\n"


def test_a_link_bends_alone(line: Line, took: Took) -> None:
    other = line.proxy.link("other", ("127.0.0.1", line.echo.port))
    assert line.proxy.port("other") == other
    line.proxy.toxic("latency", links=["e"], latency=300)
    with socket.create_connection(("127.0.0.1", other), timeout=5) as sock:
        assert took(lambda: line.trip(sock)) < 0.15
    line.proxy.down(links=["other"])
    assert took(lambda: line.trip(line.connect())) >= 0.3
    with pytest.raises(UsageError, match="no link 'none'"):
        line.proxy.toxic("latency", links=["none"])
    with pytest.raises(UsageError, match="'other' already"):
        line.proxy.link("other", ("127.0.0.1", line.echo.port))


def test_whose_a_connection_is(line: Line) -> None:
    line.proxy.link("other", ("127.0.0.1", line.echo.port))
    sock = line.connect()
    line.trip(sock)
    [[seen, whose]] = line.proxy.owners(line.echo.port, {"e": "worker:a", "other": "worker:b"}).items()
    assert (seen, whose) == (line.echo.accepted[-1].getpeername()[1], "worker:a")
    assert line.proxy.owners(line.echo.port, {"other": "worker:b"}) == {}
    ends = line.proxy.ends()
    assert ends[seen, line.echo.port] == ends[sock.getsockname()[1], line.port]


def test_nothing_is_left_of_it(line: Line) -> None:
    children = list(line.proxy.children)
    assert children
    assert line.proxy.alive
    line.connect()
    line.proxy.close()
    assert not any(child.alive for child in children)
    line.proxy.close()
    with pytest.raises(ConnectionRefusedError):
        line.connect()


def test_a_dead_toxiproxy_is_told_of(toxiproxy: Toxiproxy, echo: Echo) -> None:
    toxiproxy.link("e", ("127.0.0.1", echo.port))
    toxiproxy.children[0].signal(9)
    toxiproxy.children[0].wait(5)
    assert not toxiproxy.alive
    with pytest.raises(ProxyGone, match="of e has died"):
        toxiproxy.toxic("latency", latency=1)


def test_a_reset_of_everything_is_not_toxiproxys(toxiproxy: Toxiproxy, echo: Echo) -> None:
    toxiproxy.link("e", ("127.0.0.1", echo.port))
    with pytest.raises(UsageError, match="closes connections"):
        toxiproxy.down(how="rst")


def test_a_server_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("toxiproxy")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(ServerNotFound, match=f"(?s)not on PATH.*{ENVIRONMENT}"):
        find()
    named = tmp_path / "mine"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    monkeypatch.setenv(ENVIRONMENT, os.fspath(named))
    assert find() == str(named)
    monkeypatch.setenv(ENVIRONMENT, "/nowhere")
    with pytest.raises(ServerNotFound, match="/nowhere of"):
        find()
