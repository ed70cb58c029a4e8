"""The proxy's event loop."""

from __future__ import annotations

import select
import socket

import pytest

from pytest_celery_chaos.network.loop import Loop


class Over(Exception):
    """Ends the loop."""


def over() -> None:
    raise Over


def test_what_was_told_of_a_closed_socket_is_not_taken_for_its_successors() -> None:
    loop, told = Loop(), list[str]()
    (first, first_peer), (second, second_peer) = socket.socketpair(), socket.socketpair()
    successors: list[socket.socket] = []
    number = second.fileno()

    def replace(_: int) -> None:
        told.append("first")
        loop.forget(number)
        second.close()
        successors.extend(socket.socketpair())
        assert successors[0].fileno() == number
        loop.watch(number, select.EPOLLIN, lambda _: told.append("successor"))
        loop.forget(first.fileno())
        loop.later(0.05, over)

    loop.watch(first.fileno(), select.EPOLLIN, replace)
    loop.watch(number, select.EPOLLIN, lambda _: told.append("second"))
    first_peer.send(b"x")
    second_peer.send(b"x")
    with pytest.raises(Over):
        loop.run()
    assert told == ["first"]
    successors[1].send(b"x")
    loop.watch(first.fileno(), select.EPOLLIN, lambda _: over())
    with pytest.raises(Over):
        loop.run()
    assert "successor" in told  # what comes later is its own
    for each in (first, first_peer, second_peer, *successors):
        each.close()
