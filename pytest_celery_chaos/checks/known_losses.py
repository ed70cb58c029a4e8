"""Losses that Celery is known for: whether the history proves that a lost message is one of them, and of which kind.

Used where faults strike at random, so that no scenario can say beforehand how many there will be: each lost message
must be explained by a fault that struck just then, and each process that dies explains only what it can have taken
with it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History

Known = Literal["KF-30", "KF-32"]

#: Neighbours in the queue that tell when a message without a word of its own was popped: of the first to speak
#: among these, its worker had the time to say so at once.
_NEIGHBOURS = 20
#: What a consumer says when it has read the answer to a BRPOP, or is about to send one.
_CONSUMING = frozenset({"hello", "ready", "consuming", "popped", "received"})
#: Nanoseconds between a pop at the server and the worker's first word about it, on a busy machine.
_TOLD_LATE = 50_000_000


@dataclass
class _Death:
    """A consumer that could take a message with it: its worker ended, or its connection to the broker was cut.

    :param begin: its last word before about its consuming (ns): from then on it may have been sent a message that it
        never noted. What it settles and acknowledges meanwhile, while it shuts down above all, says nothing of that.
    """

    event: Event
    begin: int
    end: int
    spent: bool = False


class Explanations:
    """Explains lost messages one after the other.

    A worker has one BRPOP under way, so that each death explains at most one message that nobody has a word of.
    """

    def __init__(self, history: History, known: Iterable[Known]) -> None:
        self._history, self._known = history, frozenset(known)

    def explain(self, task: str) -> Known | None:
        """What took *task* with it; None where nothing is seen that could have."""
        events = [e for e in self._history.by_task[task] if e.kind not in ("held", "released", "get")]
        if "KF-30" in self._known and self._acknowledged_early(events):
            return "KF-30"
        if "KF-32" in self._known and (self._popped_not_recorded(events) or self._never_noted(task, events)):
            return "KF-32"
        return None

    def _acknowledged_early(self, events: Sequence[Event]) -> bool:
        """It was acknowledged, and then the process that had it died, with the message still in hand."""
        acks = [e for e in events if e.kind == "ack" and e.phase == "ok"]
        if not acks:
            return False
        ack = acks[-1]
        mine = [e for e in events if e.source == ack.source]
        received = max((e.t for e in mine if e.kind == "received"), default=0)
        if any(e.kind == "settled" and e.t > received for e in mine):
            return False  # its worker was done with it, and lived
        started = next((e for e in mine if e.kind == "started"), None)
        child = view.lost_child(self._history, started) if started else None
        gone = child or view.gone_after(self._history, ack.source, ack.t)
        return gone is not None and gone.t <= self._end

    def _popped_not_recorded(self, events: Sequence[Event]) -> bool:
        """BRPOP had answered and `unacked` was not written when the worker died, or lost its connection."""
        last = view.last_move(events)
        if last is None or last.kind != "popped":
            return False
        return any(death.event.source == last.source and death.end >= last.t for death in self._deaths)

    def _never_noted(self, task: str, events: Sequence[Event]) -> bool:
        """Nobody has a word of it since it was put into its queue, and a consumer died when its turn was."""
        last = view.last_move(events)
        if last is None or not (last.phase == "ok" and last.kind in ("publish", "restore", "reject")):
            return False
        begin, end = self._turn(task, last)
        for death in self._deaths:
            if not death.spent and death.begin - _TOLD_LATE <= end and begin <= death.end:
                death.spent = True
                return True
        return False

    def _turn(self, task: str, put: Event) -> tuple[int, int]:
        """Between which instants a message was popped, from those before and behind it in the queue."""
        if put.kind != "publish":  # put back where the next message is taken from
            index = bisect_right(self._pops, put.t)
            return put.t, self._pops[min(index + _NEIGHBOURS, len(self._pops) - 1)] if self._pops else put.t
        order = self._order(str(put.attrs.get("queue")))
        invoked = next((e.t for e in self._history.by_task[task] if e.kind == "publish"), put.t)
        before = order[max(0, bisect_left(order, (invoked, 0)) - _NEIGHBOURS) : bisect_left(order, (invoked, 0))]
        behind = order[bisect_right(order, (put.t, 1 << 62)) :][: 10 * _NEIGHBOURS]
        begin = max(invoked, min((popped for _, popped in before), default=invoked) - _TOLD_LATE)
        return begin, min((popped for _, popped in behind), default=self._history.end)

    def _order(self, queue: str) -> Sequence[tuple[int, int]]:
        """Messages of a queue that arrived: when their publish was answered, and when their first pop was noted."""
        if queue not in self._orders:
            pairs = []
            for event in self._history.of("publish", "ok"):
                popped = self._first_pops.get(str(event.task))
                if popped is not None and str(event.attrs.get("queue")) == queue:
                    pairs.append((event.t, popped))
            self._orders[queue] = sorted(pairs)
        return self._orders[queue]

    @cached_property
    def _end(self) -> int:
        """The last look at the keys (ns): behind it the harness ends every process, which explains nothing."""
        keys = view.last_keys(self._history)
        return keys.event.t if keys else self._history.end

    @cached_property
    def _orders(self) -> dict[str, Sequence[tuple[int, int]]]:
        return {}

    @cached_property
    def _first_pops(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for event in self._history.of("popped"):
            first.setdefault(str(event.task), event.t)
        return first

    @cached_property
    def _pops(self) -> list[int]:
        return [event.t for event in self._history.of("popped")]

    @cached_property
    def _deaths(self) -> list[_Death]:
        """Ends of workers and of their connections, in order."""
        words: dict[tuple[str, int], list[int]] = {}
        for event in self._history.events:
            if event.kind in _CONSUMING and event.role == "worker":
                words.setdefault((event.source, event.pid), []).append(event.t)
        found = []
        for event in sorted([*self._history.of("offline"), *self._history.of("connection_lost")], key=lambda e: e.t):
            if event.role != "worker" or event.t > self._end:
                continue
            # The main process alone consumes; what its pool says meanwhile tells nothing about its connection.
            ended = event.kind == "offline"
            end, pid = (view.ended_at(event), event.attrs.get("ended", 0)) if ended else (event.t, event.pid)
            said = words.get((event.source, pid), [])
            index = bisect_left(said, end)
            found.append(_Death(event, said[index - 1] if index else end, end))
        return found
