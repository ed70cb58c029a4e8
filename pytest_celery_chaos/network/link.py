"""One link: a port that is listened to, a server behind it, and what is armed between them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from select import EPOLLIN
from typing import Any

from pytest_celery_chaos.brokers.wire import Wire
from pytest_celery_chaos.network.connection import Connection
from pytest_celery_chaos.network.holding import Held, Page
from pytest_celery_chaos.network.loop import Loop, dial, no_delay
from pytest_celery_chaos.network.rules import Rule
from pytest_celery_chaos.network.toxics import Toxic
from pytest_celery_chaos.network.units import Seen, Unit
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.gate import Rule as Moment
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.ledger import Ledger

_BACKLOG = 512


class Link:
    """Accepts on a port of loopback and connects each client to the upstream server.

    :param record: ``name``, ``port``, ``upstream`` (path of a unix socket, or host and port), ``tls``, ``names`` (of
        :func:`brokers.wire.record`).
    """

    def __init__(self, loop: Loop, record: Mapping[str, Any], ledgers: str | None, control: str | None) -> None:
        self.loop, self.name, self.port = loop, record["name"], record["port"]
        self.source = f"link:{self.name}"
        self.upstream, self.tls = record["upstream"], record.get("tls")
        self.seen = Seen(Wire(record["names"]))
        self.connections: dict[int, Connection] = {}
        self.rules: list[Rule] = []
        self.toxics: dict[str, Toxic] = {}
        self.held: list[Held] = []
        self.frozen: set[str] = set()
        self.timeline: frozenset[str] | None = None
        self.accepted = self.refused = 0
        self._careful = False
        self._moments: list[Moment] = []
        self._ledger = Ledger(ledgers, self.source) if ledgers else None
        self._page = Page(control) if control and os.path.exists(f"{control}/control") else None  # noqa: PTH110
        self._hello()
        self._listener: socket.socket | None = None
        self.up()

    def up(self) -> None:
        """Listen. The harness holds the port, so that nobody else takes it while it is down."""
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(_BACKLOG)
            self._listener = listener
            self.loop.watch(listener.fileno(), EPOLLIN, self._accept)

    def down(self, *, reset: bool = False) -> None:
        """Refuse connections, and end those that there are."""
        if self._listener is not None:
            self.loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self.cut(reset=reset)

    def cut(self, numbers: Sequence[int] | None = None, *, reset: bool = False, side: str = "both") -> int:
        """End connections; all, or those with these numbers."""
        meant = [each for each in self.connections.values() if numbers is None or each.number in numbers]
        for each in meant:
            each.cut("rst" if reset else "fin", side)
        return len(meant)

    def close(self) -> None:
        self.down()
        if self._ledger is not None:
            self._ledger.close()

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        for _number in range(64):
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            client.setblocking(False)
            no_delay(client)
            try:
                server = dial(self.loop, self.upstream, self.tls)
            except OSError:
                self.refused += 1  # as if there were nobody here
                with contextlib.suppress(OSError):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
                continue
            self.accepted += 1
            connection = Connection(self, self.accepted, client, server)
            self.connections[self.accepted] = connection
            for toxic in self.toxics.values():
                connection.add(toxic)
            for stream in self.frozen:
                connection.freeze(stream)

    def rename(self, names: Mapping[str, Any]) -> None:
        """By which names the application's keys are called, once that is known (its queues, at `ready`)."""
        self.seen.wire = Wire(names)

    # What is armed

    def arm(self, rule: Rule) -> None:
        self.rules.append(rule)
        self.weigh()

    def disarm(self, number: int) -> None:
        self.rules = [rule for rule in self.rules if rule.id != number]
        self.release(number)
        self.weigh()

    def release(self, number: int) -> int:
        """Let go of what a rule holds."""
        held = [each for each in self.held if number in each.ids]
        for each in held:
            each.end("go")
        return len(held)

    def weigh(self) -> None:
        """Whether anything is armed: then what passes is looked at before it is sent on, else afterwards."""
        self.rules = [rule for rule in self.rules if not rule.over]
        self._careful = self.seen.eager = bool(self.rules or self._moments or self.timeline is not None)

    def careful(self) -> bool:
        """:meth:`weigh`, with the page of moments read again where it has changed."""
        if self._page is not None and self._page.changed():
            self._moments = self._page.moments(self.source)
            self.weigh()
        return self._careful

    def rules_for(
        self,
        unit: Unit,
        when: Sequence[str],
        command: bytes,
        key: bytes,
        head: Sequence[bytes],
        *,
        inside: bool = False,
    ) -> list[Rule]:
        """The rules that mean a unit; with *inside*, those that mean one command of a transaction."""
        if not self.rules:
            return []
        multi = unit.commands is not None
        found = [
            rule
            for rule in self.rules
            if rule.when in when
            and (rule.in_whole or not multi) is not inside
            and rule.takes(unit, command, key, head, multi)
        ]
        if found or any(rule.over for rule in self.rules):  # it may have acted on another link
            self.weigh()
        return found

    def moments_for(self, unit: Unit, phase: str) -> list[Moment]:
        """The armed moments that a unit has come to."""
        if not self._moments:
            return []
        kind, task, name = f"wire_{unit.role}", _text(unit.task), _text(unit.name)
        return [m for m in self._moments if m.kind == kind and m.matches(phase, self.source, task, name, ())]

    def ask(self, held: Held, moments: Sequence[Moment], event: dict[str, Any]) -> None:
        assert self._page is not None
        self._page.ask(self.loop, held, moments, event)

    # What is told

    def wants(self, unit: Unit) -> bool:
        """Whether the timeline has units of this role."""
        return self.timeline is not None and (not self.timeline or unit.role in self.timeline)

    def tell(self, unit: Unit, phase: str, number: int, rules: Sequence[Rule], **more: Any) -> dict[str, Any]:
        """Write an event of a unit down, and return it."""
        attrs: dict[str, Any] = {"conn": number, "command": _text(unit.command), "db": unit.db}
        if unit.role not in ("handshake", "script") and unit.key:
            attrs["key"] = _text(unit.key[:200])
        if unit.commands is not None:
            attrs["commands"] = [_text(command) for command in unit.commands]
        for name in ("name", "tag"):
            if getattr(unit, name) is not None:
                attrs[name] = _text(getattr(unit, name))
        if rules:
            attrs["rules"] = [{"id": rule.id, "do": rule.do} for rule in rules]
        return self.write(f"wire_{unit.role}", phase, _text(unit.task), {**attrs, **more})

    def write(self, kind: str, phase: str | None, task: str | None, attrs: dict[str, Any]) -> dict[str, Any]:
        t, n = self._ledger.write(kind, phase, task, attrs) if self._ledger else (time.monotonic_ns(), 0)
        record = {"t": t, "source": self.source, "kind": kind, "phase": phase, "task": task, "pid": os.getpid(), "n": n}
        return {**record, "attrs": attrs}

    def stats(self) -> dict[str, Any]:
        """Counts, for the harness."""
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "open": len(self.connections),
            "up": self._listener is not None,
            "units": dict(self.seen.counts),
            "unknown": dict(self.seen.unknown),
            "blind": sum(each.blind for each in self.connections.values()),
            "rules": [rule.state() for rule in self.rules],
            "holding": [number for held in self.held for number in held.ids],
        }

    def _hello(self) -> None:
        boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None
        self.write("hello", None, None, {
            "role": "link", "argv": sys.argv, "ppid": os.getppid(), "versions": {"python": sys.version.split()[0]},
            "monotonic": time.monotonic_ns(), "realtime": time.time_ns(), "boottime": boottime, "port": self.port,
        })  # fmt: skip


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")
