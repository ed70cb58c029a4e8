"""The history while it happens: what every process has written so far, and the harness's own events among it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_celery_chaos.history.event import Event, Phase
from pytest_celery_chaos.history.log import Ledger, Tail

#: Of more events than these Python keeps what they were made of for others like them, until it is told to collect;
#: and the history is about to be read in once more.
_MANY = 50_000


class Live:
    """Reads the ledgers of a run as they grow, and keeps the harness's own.

    :param ledgers: the folder that every recorded process writes into.
    """

    def __init__(self, ledgers: Path) -> None:
        self._ledger = Ledger(ledgers, "harness")
        self._tail = Tail(ledgers)
        self._events: list[Event] = []
        self._by_kind: dict[str, list[Event]] = {}
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Event], None]] = []

    def on_own(self, listener: Callable[[Event], None]) -> None:
        """Call *listener* with every event that the harness writes itself."""
        self._listeners.append(listener)

    def emit(
        self,
        kind: str,
        phase: Phase | None = None,
        *,
        task: str | None = None,
        source: str | None = None,
        **attrs: Any,
    ) -> Event:
        """Write an event of the harness; *source* is whom it is about, where that is somebody else."""
        event = self._ledger.emit(kind, phase, task=task, source=source, by="harness" if source else None, **attrs)
        for listener in self._listeners:
            listener(event)
        return event

    def read(self) -> list[Event]:
        """Everything so far, in the order of its arrival here. The list grows; do not change it."""
        with self._lock:
            new = self._tail.read()
            self._events.extend(new)
            for event in new:
                self._by_kind.setdefault(event.kind, []).append(event)
            return self._events

    def of(self, kind: str) -> list[Event]:
        """The events of one kind so far: a wait for a rare one need not look at all others again and again."""
        self.read()
        return self._by_kind.setdefault(kind, [])

    def since(self, index: int) -> Iterator[Event]:
        """The events from *index* on, as they stand now."""
        events = self.read()
        for number in range(index, len(events)):
            yield events[number]

    def find(self, matches: Callable[[Event], bool], *, kind: str | None = None) -> Event | None:
        """The first event so far that *matches*, or None.

        :param kind: look among events of this kind alone.
        """
        return next(filter(matches, self.read() if kind is None else self.of(kind)), None)

    def close(self) -> None:
        """Let go of the files, and of what was read: from now on the ledgers speak."""
        with self._lock:
            self._ledger.close()
            self._tail.close()
            many = len(self._events) > _MANY
            self._events.clear()
            self._by_kind.clear()
        if many:
            gc.collect()

    def last_words(self, count: int = 3) -> str:
        """The newest events, for messages about what did not happen."""
        newest = sorted(self.read(), key=lambda event: event.t)[-count:]
        return ", ".join(f"{e.kind}{f' {e.phase}' if e.phase else ''} ({e.source})" for e in newest) or "nothing"
