"""What is wrong with a record: events that are missing, doubled or out of place. Such a record proves nothing."""

from __future__ import annotations

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
    # A pid may have several lives (a re-exec keeps it, containers all have 1); each begins with its own hello.
    begins = [index for index, event in enumerate(events) if event.kind == "hello"]
    if not begins:
        yield f"{who} never said hello"
        return
    if begins[0] > 0:
        yield f"{who}: {events[0].kind} came before its hello"
        return
    if len({events[begin].t for begin in begins}) < len(begins):
        yield f"{who}: its hello is there twice"
        return
    for begin, end in zip(begins, [*begins[1:], len(events)], strict=True):
        yield from _of_life(who, events[begin:end])


def _of_life(who: str, events: Sequence[Event]) -> Iterator[str]:
    """Each life is numbered from 0 without gaps, and its time rises with the numbers."""
    latest = 0
    for number, event in enumerate(sorted(events, key=lambda event: event.n)):
        if event.n != number:
            what = (
                f"event {number} is missing" if event.n > number else f"event {event.n} ({event.kind}) is there twice"
            )
            yield f"{who}: {what}"
            return
        if latest - event.t > DISORDER:
            yield f"{who}: event {number} ({event.kind}) is {(latest - event.t) / 1e9:.3f} s older than one before it"
            return
        latest = max(latest, event.t)


def of_links(history: History) -> Iterator[str]:
    """A proxy that ended before its time: what came of that is no doing of anybody under test."""
    for event in history.by_kind.get("offline", ()):
        if event.role == "link" and not event.attrs.get("asked"):
            yield "the proxy has died, and all links with it"


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
