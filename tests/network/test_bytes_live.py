"""Faults of bytes, the half-open connection, large values, many operations: with plain sockets, from outside."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pytest_celery_chaos.system import wait

from .conftest import Line, read, until_eof


@pytest.fixture
def line(resp_line: Line) -> Line:
    return resp_line


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


# Real Toxiproxy 2.5 now and then loses what it holds of a connection that one side has closed meanwhile.
def test_what_a_toxic_holds_goes_on_when_all_are_removed(line: Line) -> None:
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


def test_reset_peer_resets_what_there_is(line: Line) -> None:
    sock = line.connect()
    line.trip(sock)
    line.proxy.toxic("reset_peer", timeout=50)
    sock.sendall(b"abc")
    with pytest.raises(ConnectionResetError):
        until_eof(sock)


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
