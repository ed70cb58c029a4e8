"""Moments: what is armed, the processes held there, and what is done while they wait.

A recorded process that reaches an armed moment has written its event, connects to our socket and waits for one
byte. So the fault is applied exactly there, however busy the machine is (reacting to an event comes too late:
killed "when started", a no-op task had already run in 14 of 15 tries). What is not armed never waits.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_celery_chaos.engine.pattern import Pattern
from pytest_celery_chaos.history.event import Event

PAGE: Final = 65536
_HEAD: Final = struct.Struct("<QI")
#: Seconds that we wait longer than a held process does: that its deadline has passed is for the process to say.
_LATER: Final = 5.0


@dataclass
class Armed:
    """One armed moment.

    :param action: called once, with the event, while the process waits.
    :param keep: keep the process waiting after the action, until :meth:`release`.
    """

    number: int
    pattern: Pattern
    nth: int
    deadline: float
    action: Callable[[Armed, Event], None]
    keep: bool = False
    seen: int = 0
    fired: bool = False
    _acted: threading.Event = field(default_factory=threading.Event)
    _go: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the held process go on now, before the action has ended or instead of keeping it."""
        self._acted.set()
        self._go.set()

    def take(self, event: Event) -> bool:
        """Count *event*; True if it is the one that was waited for."""
        if self.fired or not self.pattern.matches(event):
            return False
        self.seen += 1
        self.fired = self.seen == self.nth
        return self.fired


class Gate:
    """The armed moments of one run.

    :param folder: where the recorded processes find the page and the socket.
    :param emit: writes an event of the harness.
    """

    def __init__(self, folder: Path, emit: Callable[..., Event]) -> None:
        self._emit = emit
        self._armed: list[Armed] = []
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._acting = 0
        self._closed = False
        handle = os.open(folder / "control", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, PAGE)
        self._page = mmap.mmap(handle, PAGE)
        os.close(handle)
        self._generation = 0
        self._publish()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(folder / "gate.sock"))
        self._server.listen(64)
        threading.Thread(target=self._accept, name="chaos-gate", daemon=True).start()

    def arm(
        self,
        pattern: Pattern,
        action: Callable[[Armed, Event], None],
        *,
        nth: int = 1,
        deadline: float = 30.0,
        keep: bool = False,
    ) -> Armed:
        """From now on hold the process that reaches *pattern* for the *nth* time, and call *action* meanwhile.

        :param deadline: seconds after which the held process goes on by itself; the run is inconclusive then.
        """
        with self._lock:
            armed = Armed(len(self._armed) + 1, pattern, nth, deadline, action, keep)
            self._armed.append(armed)
            self._publish()
        return armed

    def disarm(self, armed: Armed) -> None:
        """Hold no more processes there."""
        with self._lock:
            armed.fired = True
            self._publish()
        armed.release()

    def seen(self, event: Event) -> None:
        """Tell of an event that the harness wrote itself: nobody can be held there, the action runs at once."""
        with self._lock:
            due = [armed for armed in self._armed if armed.take(event)]
            self._acting += len(due)
        for armed in due:
            self._start(lambda armed=armed: self._act(armed, event), "chaos-react")  # type: ignore[misc]

    def unreached(self) -> Sequence[Armed]:
        """What was armed and never came."""
        with self._lock:
            return [armed for armed in self._armed if not armed.fired]

    def settle(self, timeout: float) -> bool:
        """Wait for actions that are under way; False if one is still at it after *timeout* seconds.

        Not for processes that are kept waiting afterwards: those are healed.
        """
        with self._idle:
            return self._idle.wait_for(lambda: self._acting == 0, timeout)

    def close(self) -> None:
        """Release everybody and hold nobody any more."""
        with self._lock:
            self._closed = True
            for armed in self._armed:
                armed.fired = True
            self._publish()
        for armed in self._armed:
            armed.release()
        # Without this the thread that accepts would wait for ever, and hold the socket open.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _publish(self) -> None:
        """Write the rules that can still fire into the page; an odd generation says that it is being written."""
        rules = [a.pattern.rule(a.number, a.deadline) for a in self._armed if not a.fired]
        data = json.dumps(rules).encode()
        if len(data) > PAGE - _HEAD.size:
            raise ValueError(f"{len(rules)} moments are armed at once: their rules take {len(data)} bytes")
        _HEAD.pack_into(self._page, 0, self._generation + 1, 0)
        self._page[_HEAD.size : _HEAD.size + len(data)] = data
        self._generation += 2
        struct.pack_into("<I", self._page, 8, len(data))
        struct.pack_into("<Q", self._page, 0, self._generation)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._start(lambda c=connection: self._serve(c), "chaos-held")  # type: ignore[misc]

    def _start(self, work: Callable[[], None], name: str) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """One held process: find what is due here, do it, let the process go on."""
        with connection:
            line = _line(connection)
            if not line:
                return
            message: dict[str, Any] = json.loads(line)
            event = Event.from_record(message["event"])
            with self._lock:
                due = [a for a in self._armed if a.number in message["rules"] and a.take(event)]
                if due:
                    self._acting += len(due)
                    self._publish()
            if due:
                self._hold(due, event)
            try:
                connection.sendall(b"g")
            except OSError:
                return  # The process was killed while it was held: that is what most moments are for.

    def _hold(self, due: Sequence[Armed], event: Event) -> None:
        self._emit("held", task=event.task, rules=[a.number for a in due], event=event.kind, source_of=event.source)
        ends = time.monotonic() + max(armed.deadline for armed in due) + _LATER
        for armed in due:
            # The action may release its process early (a warm stop waits for an exit that a held process cannot make).
            self._start(lambda armed=armed: self._act(armed, event), "chaos-act")  # type: ignore[misc]
            armed._acted.wait(ends - time.monotonic())
        for armed in due:
            armed._go.wait(ends - time.monotonic())

    def _act(self, armed: Armed, event: Event) -> None:
        try:
            armed.action(armed, event)
        finally:
            armed._acted.set()
            if not armed.keep:
                armed.release()
            with self._idle:
                self._acting -= 1
                self._idle.notify_all()


def _line(connection: socket.socket) -> bytes:
    """One line, or nothing where the process is gone."""
    data = b""
    while not data.endswith(b"\n"):
        try:
            chunk = connection.recv(65536)
        except OSError:
            return b""
        if not chunk:
            return b""
        data += chunk
    return data
