"""A run's history as a value: its events in the order of time, with what checks ask of it.

Finished runs have one ``history.ndjson``; interrupted ones still have their ledgers, which are merged while reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from pytest_celery_chaos.history import defects
from pytest_celery_chaos.history.event import Event, Phase
from pytest_celery_chaos.history.labels import of_part
from pytest_celery_chaos.history.ledger import Ledger as Ledger
from pytest_celery_chaos.history.ledger import Tail as Tail

VERSION = 1

#: Events are ordered by time; what bears the same nanosecond, by process and number.
_ORDER = ("t", "pid", "n")
ORDER = attrgetter(*_ORDER)


@dataclass(frozen=True)
class Header:
    """First line of a stored history.

    :param monotonic: CLOCK_MONOTONIC (ns) when the run began; times are told relative to it.
    :param realtime: the wall clock (ns since the epoch) at that same instant.
    :param torn: ledgers whose last line was cut off, which is what a SIGKILL may do.
    :param broken: lines that are no events, as ``file:line``; with one of these a run is inconclusive.
    """

    run: str = ""
    monotonic: int = 0
    realtime: int = 0
    torn: Sequence[str] = ()
    broken: Sequence[str] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON-ready data."""
        record: dict[str, Any] = {"history": VERSION, "run": self.run}
        record |= {"monotonic": self.monotonic, "realtime": self.realtime}
        return record | {name: list(getattr(self, name)) for name in ("torn", "broken") if getattr(self, name)}


def _in_order(events: list[Event]) -> list[Event]:
    """The events sorted; a stored history is so already, which is cheaper to see than to make.

    By one number after the other, the last that counts first: tuples of them would take more memory than the events.
    """
    latest = -1
    for event in events:
        if event.t <= latest:
            for name in reversed(_ORDER):
                events.sort(key=attrgetter(name))
            break
        latest = event.t
    return events


class History:
    """The events of one run.

    :param events: in any order.
    :param header: None: the run began with its first event.
    """

    def __init__(self, events: Iterable[Event], header: Header | None = None) -> None:
        self.events: Sequence[Event] = _in_order(list(events))
        first = self.events[0].t if self.events else 0
        self.header = header or Header(monotonic=first)

    @classmethod
    def load(cls, path: Path | str) -> History:
        """Read a run's folder, or one ``history.ndjson``.

        :raises StoredRunError: if there is nothing to read, or it is of another version.
        """
        from pytest_celery_chaos.history.store import load_history

        return load_history(Path(path))

    def __len__(self) -> int:
        return len(self.events)

    @cached_property
    def by_kind(self) -> Mapping[str, Sequence[Event]]:
        """Events of each kind, in order."""
        index: dict[str, list[Event]] = {}
        for event in self.events:
            index.setdefault(event.kind, []).append(event)
        return index

    @cached_property
    def by_task(self) -> Mapping[str, Sequence[Event]]:
        """Events of each task id, in order."""
        index: dict[str, list[Event]] = {}
        for event in self.events:
            if event.task is not None:
                index.setdefault(event.task, []).append(event)
        return index

    def of(
        self, kind: str, phase: Phase | None = None, task: str | None = None, source: str | None = None
    ) -> list[Event]:
        """Events of a kind; of one phase, of one task (a label, a task's name or an id), of one source."""
        found: Iterable[Event]
        if task is None:
            found = self.by_kind.get(kind, ())
        else:
            wanted = (event for one in self.ids(task) for event in self.by_task[one] if event.kind == kind)
            found = sorted(wanted, key=ORDER)
        return [e for e in found if (phase is None or e.phase == phase) and (source is None or e.source == source)]

    @cached_property
    def prefixes(self) -> Mapping[str, Sequence[str]]:
        """By label, how the ids of each step begin that has a name and publishes."""
        found: dict[str, list[str]] = {}
        for event in self.by_kind.get("label", ()):
            found.setdefault(str(event.attrs.get("label")), []).append(str(event.attrs.get("prefix")))
        return found

    @cached_property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of each step that has a name and publishes, as far as an event speaks of them."""
        return {
            label: tuple(one for one in self.by_task if any(one.startswith(p) for p in prefixes))
            for label, prefixes in self.prefixes.items()
        }

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of each task name, from publishes and receipts."""
        index: dict[str, dict[str, None]] = {}
        for kind in ("publish", "popped", "received"):
            for event in self.by_kind.get(kind, ()):
                if event.task is not None and (name := event.attrs.get("name")):
                    index.setdefault(name, {})[event.task] = None
        return {name: tuple(ids) for name, ids in index.items()}

    def ids(self, task: str | None) -> Sequence[str]:
        """The task ids that *task* stands for: a label, or a part of one (``c.body``), else a task's name, else an id.

        None stands for all. Empty where nothing in the history bears that name.
        """
        if task is None:
            return tuple(self.by_task)
        if task in self.labels:
            return self.labels[task]
        if (part := of_part(task)) is not None and part[0] in self.labels:
            prefixes = self.prefixes[part[0]]
            return tuple(one for one in self.labels[part[0]] if any(one.startswith(p + part[1]) for p in prefixes))
        return self.names.get(task) or ((task,) if task in self.by_task else ())

    def seconds(self, when: Event | int) -> float:
        """Seconds from the run's start to an event, or to an instant of CLOCK_MONOTONIC in ns."""
        return ((when if isinstance(when, int) else when.t) - self.header.monotonic) / 1e9

    @property
    def end(self) -> int:
        """The instant of the last event (ns)."""
        return self.events[-1].t if self.events else self.header.monotonic

    def defects(self) -> Sequence[str]:
        """What is wrong with the record itself. A history that has a defect proves nothing."""
        return self._defects

    @cached_property
    def _defects(self) -> Sequence[str]:
        return [
            *defects.of_links(self),
            *defects.of_header(self.header.torn, self.header.broken, self),
            *defects.of_events(self.events),
        ]
