"""Lines of NDJSON into events, many at a time.

A blank line is none, and a NUL is the end of what was written: a recorder that writes through memory has taken more of
the file than it has filled, and fills the rest with blanks where it goes on otherwise.

A thousand lines are parsed as one JSON array: keys are then shared between the events (a third of the memory) and
the parser is entered once (half of the time). Only where such a chunk is no array of events is each line looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from sys import intern
from typing import Any

from pytest_celery_chaos.history.event import Event

PHASES = frozenset({None, "invoke", "ok", "fail", "unknown"})
_CHUNK = 1 << 19  # bytes read at a time; parsed, they take ten times the memory for a moment
_NOTHING = Event(0, "", "").attrs
#: So many different attributes are remembered: the two events of one acknowledgement stand close to each other.
_REMEMBERED = 4096


class Parser:
    """Parses lines into events; remembers texts (ids, tags, names) and attributes, so that each is in memory once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._numbers: dict[int, int] = {}
        self._attrs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def parse(self, lines: Sequence[bytes]) -> tuple[list[Event], list[int]]:
        """The events of whole lines, and the indexes of the lines that are none."""
        try:
            records = json.loads(b"[" + b",".join(lines) + b"]")
            if len(records) == len(lines):
                return [self._event(record) for record in records], []
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            pass  # some line is no event: find out which
        return self._one_by_one(lines)

    def _one_by_one(self, lines: Sequence[bytes]) -> tuple[list[Event], list[int]]:
        events: list[Event] = []
        broken: list[int] = []
        for index, line in enumerate(lines):
            if line.isspace():
                continue
            try:
                events.append(self._event(json.loads(line)))
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                broken.append(index)
        return events, broken

    def _event(self, record: dict[str, Any]) -> Event:
        get = record.get
        t, pid, n, task, phase = record["t"], get("pid", 0), get("n", 0), get("task"), get("phase")
        attrs = get("attrs")
        if not (type(t) is int and type(pid) is int and type(n) is int and phase in PHASES):
            raise TypeError("not the fields of an event")
        once = self._texts.setdefault
        if attrs is None:
            attrs = _NOTHING
        elif type(attrs) is not dict:
            raise TypeError("attrs is not an object")
        else:
            for key, value in attrs.items():
                if type(value) is str:
                    attrs[key] = once(value, value)
            attrs = self._once(attrs)
        if task is not None:
            if type(task) is not str:
                raise TypeError("task is not an id")
            task = once(task, task)
        source, kind = intern(record["source"]), intern(record["kind"])
        pid, n = self._numbers.setdefault(pid, pid), self._numbers.setdefault(n, n)
        return Event(t, source, kind, phase, task, pid, n, get("by"), attrs)

    def _once(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Equal attributes as one object: an event's are never changed, and most tasks have the same ones."""
        values = tuple(attrs.values())
        try:
            # With the types, since 1 equals True and 1.0.
            same = self._attrs.setdefault((*attrs, *map(type, values), *values), attrs)
        except TypeError:  # a list or an object among them
            return attrs
        if len(self._attrs) > _REMEMBERED:
            self._attrs.clear()
        return same


def read(path: Path, parser: Parser, *, skip: int = 0) -> Iterator[tuple[list[Event], list[int], bytes]]:
    """Read a file chunk by chunk: events, numbers (from 1) of broken lines, and the torn tail (last chunk only).

    :param skip: so many lines at the start are not events (a header).
    """
    number = 0
    with path.open("rb") as file:
        while lines := file.readlines(_CHUNK):
            torn = b""
            # The beginning of a line; of a mapped file also a line with a hole, which a kill left, and the NULs behind.
            while lines and (not lines[-1].endswith(b"\n") or b"\0" in lines[-1]):
                torn = lines.pop().partition(b"\0")[0] or torn
            first, number = number, number + len(lines)
            wanted = lines[max(0, skip - first) :]
            events, broken = parser.parse(wanted) if wanted else ([], [])
            yield events, [number - len(wanted) + index + 1 for index in broken], torn
