"""Where a process is held: at an event that is armed, until the harness lets it go.

The harness writes rules into one page that all processes map (``control``) and listens on ``gate.sock`` beside it.
An event costs a comparison of eight bytes while nothing has changed.
"""

from __future__ import annotations

import json
import mmap
import os
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as Socket  # the C one: gevent does not replace it
from collections.abc import Sequence
from time import monotonic, monotonic_ns
from typing import Any

_HEADER = 12
#: How often a page in the middle of being written is read again, before the old rules are kept.
_READS = 2000


class Rule:
    """What to hold at; see :meth:`matches`."""

    __slots__ = ("deadline", "id", "ids", "kind", "names", "phase", "source")

    def __init__(self, record: dict[str, Any]) -> None:
        self.id = record["id"]
        self.kind: str = record["kind"]
        self.phase: str | None = record.get("phase")
        self.source: str | None = record.get("source")
        self.ids = tuple(record.get("ids") or ())
        self.names = frozenset(record.get("names") or ())
        self.deadline = float(record.get("deadline", 30.0))

    def matches(self, phase: str | None, source: str, task: str | None, name: str | None, ids: Sequence[str]) -> bool:
        """Whether an event of this rule's kind is one to hold at.

        A phase of None is that of an event that has none. The task matches when its id starts with one of `ids` or
        its name is one of `names`; a rule with neither takes every task.
        """
        if self.phase != phase:
            return False
        if self.source is not None and self.source != source:
            return False
        if not self.ids and not self.names:
            return True
        if self.ids and ((task and task.startswith(self.ids)) or self.meant(ids)):
            return True
        return name is not None and name in self.names

    def meant(self, ids: Sequence[str]) -> list[str]:
        """Those of *ids* that this rule is about."""
        return [each for each in ids if each.startswith(self.ids)] if self.ids else []


class Gate:
    """The rules that are armed now, and the wait at one of them.

    :param folder: has ``control`` (see :meth:`rules` for its layout) and ``gate.sock``.

    :ivar page: ``control``, as it is now.
    :ivar seen: its generation when it was last read.
    :ivar armed: the rules that it had then, by kind.
    """

    def __init__(self, folder: str) -> None:
        self._socket = f"{folder}/gate.sock"
        self.seen = b"\0" * 8
        self.armed: dict[str, list[Rule]] = {}
        file = os.open(f"{folder}/control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.page = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        finally:
            os.close(file)

    def rules(self, kind: str) -> Sequence[Rule]:
        """The rules for events of *kind*.

        The page: a generation (u64 LE, odd while the page is being written), a length (u32 LE), a JSON array.
        """
        if self.page[:8] != self.seen:
            self._read()
        return self.armed.get(kind, ())

    def match(
        self, kind: str, phase: str | None, source: str, task: str | None, name: str | None, ids: Sequence[str]
    ) -> list[Rule]:
        """The armed rules that an event fulfils."""
        rules = self.rules(kind)
        return [rule for rule in rules if rule.matches(phase, source, task, name, ids)] if rules else []

    def _read(self) -> None:
        page = self.page
        for _ in range(_READS):
            before = page[:8]
            if not before[0] & 1:
                length = int.from_bytes(page[8:_HEADER], "little")
                text = page[_HEADER : _HEADER + length]
                if page[:8] == before:
                    found: dict[str, list[Rule]] = {}
                    for record in json.loads(text) if text else ():
                        found.setdefault(record["kind"], []).append(Rule(record))
                    self.armed, self.seen = found, before
                    return
            os.sched_yield()

    def hold(self, rules: Sequence[Rule], record: dict[str, Any]) -> tuple[str, int] | None:
        """Tell the harness and wait for its byte.

        :returns: how it ended (``go``, ``eof``, ``deadline``) and after how many ns; None where nobody listens.
        """
        began, ends = monotonic_ns(), monotonic() + max(rule.deadline for rule in rules)
        line = json.dumps({"rules": [rule.id for rule in rules], "event": record}, default=str).encode() + b"\n"
        connection = Socket(AF_UNIX, SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, ends - monotonic()))
            try:
                connection.connect(self._socket)
                connection.sendall(line)
            except OSError:
                return None
            try:
                connection.settimeout(max(0.001, ends - monotonic()))
                how = "go" if connection.recv(1) else "eof"
            except TimeoutError:
                how = "deadline"
            except OSError:
                how = "eof"
        finally:
            connection.close()
        return how, monotonic_ns() - began
