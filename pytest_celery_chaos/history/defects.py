"""What is wrong with a record: events that are missing, doubled or out of place. Such a record proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_celery_chaos.history.event import Event

if TYPE_CHECKING:
    from pytest_celery_chaos.history.log import History

#: Time and number are taken together, under a lock. Only a signal's handler comes between; it is short (ns).
DISORDER = 50_000_000


def of_events(events: Sequence[Event]) -> Iterator[str]:
    """Gaps and doubles in the numbers of each process, hellos that are missing, times that run backwards."""
    processes: dict[tuple[str, int], list[Event]] = {}
    for event in events:
        processes.setdefault((event.by or event.source, event.pid), []).append(event)
    for (writer, pid), theirs in processes.items():
        yield from _of_process(f"{writer} (pid {pid})", theirs)


def _of_process(who: str, events: Sequence[Event]) -> Iterator[str]:
    hellos = sum(event.kind == "hello" for event in events)
    if not hellos:
        yield f"{who} never said hello"
        return
    if len({(event.t, event.n) for event in events}) < len(events):
        yield f"{who}: an event is there twice"
        return
    # A pid may have several lives (re-exec keeps it, containers all have 1), each numbered from 0 without gaps: then
    # no number occurs more often than the one below it, and 0 as often as there are hellos.
    counts = Counter(event.n for event in events)
    allowed = hellos
    for n in range(max(counts) + 1):
        if not 0 < counts[n] <= allowed:
            yield f"{who}: {_times(counts[n], n)} where {allowed} must be: an event was lost or doubled"
            return
        allowed = counts[n]
    if hellos == 1:
        yield from _disorder(who, events)


def _times(count: int, n: int) -> str:
    return f"event {n} is there {count} times" if count else f"event {n} is missing"


def _disorder(who: str, events: Sequence[Event]) -> Iterator[str]:
    latest = 0
    for event in sorted(events, key=lambda event: event.n):
        if latest - event.t > DISORDER:
            yield f"{who}: event {event.n} ({event.kind}) is {(latest - event.t) / 1e9:.3f} s older than one before it"
            return
        latest = max(latest, event.t)


def of_header(torn: Iterable[str], broken: Iterable[str], history: History) -> Iterator[str]:
    """Lines that are no events, and torn tails of processes that nobody killed."""
    for place in broken:
        yield f"{place} is not an event"
    for ledger in torn:
        source, pid, _ = ledger.rsplit(".", 2)
        if not _was_killed(source, int(pid), history):
            yield f"{ledger}: the last line is torn, and the process was not killed"


def _was_killed(source: str, pid: int, history: History) -> bool:
    # A ledger is named after its source with '-' for ':' and '/'; a kill may be of the group or of one child.
    for event in (*history.by_kind.get("offline", ()), *history.by_kind.get("child_down", ())):
        if event.source.replace(":", "-").replace("/", "-") == source:
            killed = event.attrs.get("signal") if event.kind == "offline" else event.attrs.get("child") == pid
            if killed:
                return True
    return False
