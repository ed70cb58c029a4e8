"""Holding one direction of one connection: until the harness says so, for a time, or at an armed moment's gate.

The gate is the recorder's: the harness writes what is armed into one page that all processes map, and whoever reaches
it connects to a socket and waits for one byte. Here only the held direction waits.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any

from pytest_celery_chaos.network.loop import Loop, Timer
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.gate import Gate
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.gate import Rule as Moment

_RETRY = 0.01


class Page(Gate):
    """The page of armed moments, asked for wire events of one source alone."""

    def changed(self) -> bool:
        """Whether it has been written since it was last read."""
        return self.page[:8] != self.seen

    def moments(self, source: str) -> list[Moment]:
        """What is armed on *source*: a moment that names no link is the recorders'."""
        self._read()
        every = (rule for kind, rules in self.armed.items() if kind.startswith("wire_") for rule in rules)
        return [rule for rule in every if rule.source == source]

    def ask(self, loop: Loop, held: Held, moments: Sequence[Moment], event: dict[str, Any]) -> None:
        """Tell the harness who waits here, and end *held* as it says; at once where nobody listens."""
        line = json.dumps({"rules": [each.id for each in moments], "event": event}, default=str).encode() + b"\n"
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        handle = connection.fileno()

        def over(how: str) -> None:
            loop.forget(handle)
            connection.close()
            held.end(how)

        def heard(_: int) -> None:
            try:
                over("go" if connection.recv(1) else "eof")
            except BlockingIOError:
                return
            except OSError:
                over("eof")

        def begin() -> None:
            if held.over:
                connection.close()
                return
            try:
                connection.connect(self._socket)
                connection.sendall(line)
            except BlockingIOError:  # others wait to be accepted
                loop.later(_RETRY, begin)
            except OSError:
                over("nobody")
            else:
                loop.watch(handle, 1, heard)
                held.on_end = drop

        def drop() -> None:
            loop.forget(handle)
            connection.close()

        begin()


class Held:
    """One wait. Ends once, whoever ends it first.

    :param then: called with how it ended (``go``, ``eof``, ``time``, ``deadline``, ``gone``, ``nobody``).
    :param seconds: after which it ends as *late* says.
    """

    def __init__(
        self, loop: Loop, ids: Sequence[int], then: Callable[[Held, str], None], seconds: float, late: str
    ) -> None:
        self.ids, self.began = list(ids), monotonic_ns()
        self.over = False
        self.on_end: Callable[[], object] = lambda: None
        self._then = then
        self._timer: Timer = loop.later(seconds, lambda: self.end(late))

    def end(self, how: str) -> None:
        if not self.over:
            self.over = True
            self._timer.cancel()
            self.on_end()
            self._then(self, how)
