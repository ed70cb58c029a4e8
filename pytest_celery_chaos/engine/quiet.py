"""When a system has come to rest: nothing in the broker's keys, and every received copy of every message settled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from pytest_celery_chaos.history.event import Event

Copy = tuple[str, int, str]  # source and pid of the main process, delivery tag

#: Nanoseconds that a message may take from the server's answer to a BRPOP until its worker writes that it has it.
#: Meanwhile it is in no key and in nobody's hands. One that was lost on that way is waited for so long.
ON_THE_WAY = 2_000_000_000


class OpenCopies:
    """Follows the events and keeps the copies of messages that a living worker has still to settle.

    An ETA task is a copy like any other: a worker that holds one is not at rest.
    """

    def __init__(self) -> None:
        self._open: dict[Copy, str] = {}
        self._halfway: dict[Copy, str] = {}  # popped, and not yet in `unacked`
        self._orphaned: set[Copy] = set()  # open, and their worker has since lost the connection they came by
        self._publishing: dict[tuple[str, int, str], int] = {}
        self._sending: Counter[str] = Counter()
        # How often a message was put into a queue and not taken out, and when that was last (ns). Counted, since the
        # publisher may write down the server's answer when the worker has long had the message.
        self._waiting: Counter[str] = Counter()
        self._put: dict[str, int] = {}
        # Ledgers are read one after the other: an end may be known before the last words of who ended.
        self._ended: set[tuple[str, int]] = set()

    def follow(self, events: Iterable[Event]) -> None:
        """Take in what has happened since the last call."""
        for event in events:
            if event.kind in _STEPS:
                _STEPS[event.kind](self, event)

    def describe(self) -> str:
        """What is still open, or nothing."""
        copies = {**self._halfway, **self._open}
        parts = [f"{task} at {source}" for (source, _, _), task in list(copies.items())[:3]]
        since = time.monotonic_ns() - ON_THE_WAY
        if under_way := [task for task, put in self._put.items() if put > since and self._waiting[task] > 0]:
            parts.append(f"{under_way[0]} between its queue and a worker")
        if sending := sum(self._sending.values()):
            parts.append(f"{sending} delay() under way")
        if self._publishing:
            parts.append(f"{len(self._publishing)} publishes under way")
        more = len(copies) - 3
        return ", ".join(parts) + (f" and {more} more" if more > 0 else "")

    def _popped(self, event: Event) -> None:
        self._moved(event, -1)
        if (event.source, event.pid) not in self._ended:
            self._halfway[_copy(event)] = str(event.task)

    def _received(self, event: Event) -> None:
        self._halfway.pop(_copy(event), None)
        if (event.source, event.pid) not in self._ended:
            self._open[_copy(event)] = str(event.task)
            self._orphaned.discard(_copy(event))  # a message that comes again has the tag that it had

    def _disconnected(self, event: Event) -> None:
        # What it had popped and could not note as unacknowledged is lost, though its worker lives.
        mine = (event.source, event.pid)
        self._halfway = {copy: task for copy, task in self._halfway.items() if copy[:2] != mine}
        self._orphaned |= {copy for copy in self._open if copy[:2] == mine}

    def _settled(self, event: Event) -> None:
        for copy, task in list(self._open.items()):
            if copy[:2] == (event.source, event.pid) and task == event.task:
                del self._open[copy]
                return

    def _restored(self, event: Event) -> None:
        swept = event.attrs.get("reason") == "sweep"
        if event.phase == "ok":
            self._put_into_queue(event)
            if swept:
                self._swept(str(event.attrs.get("tag")))
        # Restored by its own worker (shutdown, reconnect) before it began: the copy in memory is dropped with it. So it
        # is where there was nothing left to restore, since somebody else had acknowledged or restored this tag.
        if event.phase in ("ok", "fail") and not swept:
            self._open.pop(_copy(event), None)

    def _swept(self, tag: str) -> None:
        # Its worker lost the connection that it came by and could not restore it: it dropped what it had not begun.
        for copy in [copy for copy in self._orphaned if copy[2] == tag]:
            self._orphaned.discard(copy)
            self._open.pop(copy, None)

    def _rejected(self, event: Event) -> None:
        if event.phase == "ok":
            self._open.pop(_copy(event), None)

    def _gone(self, event: Event) -> None:
        # Children that publish (a retry) end with the main process, under pids of their own.
        self._ended.add((event.source, event.attrs.get("ended", 0)))
        self._open = {copy: task for copy, task in self._open.items() if copy[:2] not in self._ended}
        self._halfway = {copy: task for copy, task in self._halfway.items() if copy[:2] not in self._ended}
        self._publishing = {key: n for key, n in self._publishing.items() if key[0] != event.source}
        self._sending.pop(event.source, None)

    def _publish(self, event: Event) -> None:
        key = (event.source, event.pid, str(event.task))
        if event.phase == "invoke":
            self._publishing[key] = event.n
        else:
            self._publishing.pop(key, None)
            if event.phase == "ok":
                self._put_into_queue(event)

    def _send(self, event: Event) -> None:
        # Counted, since the id of a call is known to the caller only when it returns.
        self._sending[event.source] += 1 if event.phase == "invoke" else -1

    def _put_into_queue(self, event: Event) -> None:
        self._put[str(event.task)] = event.t
        self._moved(event, 1)

    def _moved(self, event: Event, by: int) -> None:
        task = str(event.task)
        self._waiting[task] += by
        if not self._waiting[task]:  # of many thousands, only those that wait are kept
            del self._waiting[task]
            self._put.pop(task, None)


def _copy(event: Event) -> Copy:
    return event.source, event.pid, str(event.attrs.get("tag"))


_STEPS = {
    "popped": OpenCopies._popped,
    "received": OpenCopies._received,
    "settled": OpenCopies._settled,
    "revoked": OpenCopies._settled,
    "restore": OpenCopies._restored,
    "reject": OpenCopies._rejected,
    "connection_lost": OpenCopies._disconnected,
    "offline": OpenCopies._gone,
    "publish": OpenCopies._publish,
    "send": OpenCopies._send,
}
