"""Whether what a worker left behind comes back, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.cadence import EARLY, SLACK, Sweeper, mutex_left, sweepers
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, TaskRef

_FAR = float("inf")
_REASONS = {"visibility": "sweep", "shutdown": "shutdown", "reject": "reject"}


def redelivered(
    history: History,
    *,
    task: TaskRef,
    by: Literal["visibility", "shutdown", "reject"] | None = None,
    within: Duration | None = None,
    times: int | None = None,
) -> Finding:
    """A message that is not acknowledged must be received again: not before, and not after the bound in force.

    The bound is computed from what the workers reported as in force: visibility timeout, plus the period of the
    sweep (`unacked_restore_interval` times `unacked_restore_throttle`; 100 s before kombu 5.7), or the start or
    reconnect of a worker where that comes after the timeout; plus 2 s for a busy machine. A message that its
    worker gave back itself (shutdown, reconnect, reject) may come back at once.

    *seen*: seconds from a receipt to the next; 0 where the message never came back; with *times*, how often it did.
    Inconclusive where every message was acknowledged in time, or nobody was there to restore or receive it.

    :param by: what must have brought it back; None: any.
    :param within: seconds it may take, from the end of the worker that had it (if that lives on: from its receipt).
    :param times: it must come back exactly so often; 0: not at all.
    """
    if not (ids := view.delivered(history, task)):
        return view.nothing_called(history, task)
    run = _Run(history, by, within)
    stories = [story for one in ids for story in run.stories(one)]
    if times is not None:
        return _counted(history, stories, times)
    for outcome in ("violated", "inconclusive", "holds"):
        if found := [finding for story in stories for finding in run.judge(story) if finding.outcome == outcome]:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            first = found[0]
            return Finding(first.outcome, first.why + more, first.seen, first.evidence)
    return view.inconclusive("every message was acknowledged before it could be due again")


@dataclass
class _Story:
    """One message (one delivery tag, which all its copies share): its receipts and what became of them."""

    task: str
    receipts: list[Event] = field(default_factory=list)
    pops: list[Event] = field(default_factory=list)
    restores: list[Event] = field(default_factory=list)
    settled: list[Event] = field(default_factory=list)


def _counted(history: History, stories: Sequence[_Story], times: int) -> Finding:
    """Judge how often messages came back, whatever the time."""
    counts = [(len(story.receipts) - 1, story) for story in stories if story.receipts]
    if not counts:
        return view.inconclusive("none of the messages was ever received")
    for count, story in counts:
        if count > times or (count < times and story.settled):
            why = f"{story.task} came back {count} times, not {times}: {view.story(history, story.receipts)}"
            return Finding("violated", why, count, tuple(story.receipts))
    for count, story in counts:
        if not story.settled:
            return view.inconclusive(f"{story.task} came back {count} times so far, and is not acknowledged yet")
    return Finding("holds", f"{view.plural(len(counts), 'message')} came back {times} times each", times)


class _Run:
    """What is the same for all messages of one history."""

    def __init__(self, history: History, by: str | None, within: float | None) -> None:
        self.history, self.by, self.within = history, by, within
        self._of: dict[str, Sequence[Sweeper]] = {}
        self._locked: dict[str, Sequence[tuple[int, float]]] = {}

    @cached_property
    def _sweepers(self) -> Sequence[Sweeper]:
        return sweepers(self.history)

    def sweepers(self, receipt: Event) -> Sequence[Sweeper]:
        """Those that can restore a message from where *receipt* took it: of other keyspaces nobody can."""
        if receipt.source not in self._of:
            found = [each for each in self._sweepers if view.together(self.history, each.source, receipt.source)]
            self._of[receipt.source] = found
        return self._of[receipt.source]

    def locked(self, receipt: Event) -> Sequence[tuple[int, float]]:
        """When nobody could sweep there."""
        if receipt.source not in self._locked:
            self._locked[receipt.source] = mutex_left(self.history, receipt.source)
        return self._locked[receipt.source]

    def soonest(self, receipt: Event) -> float:
        """The shortest visibility timeout in force: before that nothing can be due."""
        return min((sweeper.timeout for sweeper in self.sweepers(receipt)), default=0.0)

    def stories(self, task: str) -> list[_Story]:
        """The messages that bore one id: a retry is published anew, with a tag of its own."""
        stories: dict[str, _Story] = {}
        for event in self.history.by_task[task]:
            story = stories.setdefault(str(event.attrs.get("tag")), _Story(task)) if "tag" in event.attrs else None
            if story is None:
                continue
            if event.kind in ("received", "popped"):
                (story.receipts if event.kind == "received" else story.pops).append(event)
            elif event.phase == "ok" and event.kind == "restore":
                story.restores.append(event)
            elif event.phase == "ok" and event.kind in ("ack", "reject") and not event.attrs.get("requeue"):
                story.settled.append(event)
        return [story for story in stories.values() if story.receipts]

    def judge(self, story: _Story) -> list[Finding]:
        """One finding for each receipt that was followed by another, and for the last if it should have been."""
        pairs = zip(story.receipts, story.receipts[1:], strict=False)
        findings = [self._pair(story, one, other) for one, other in pairs]
        last = self._last(story, story.receipts[-1])
        return [*findings, last] if last else findings

    def _due(self, receipt: Event, seen_back: int | None = None) -> tuple[float, Sweeper | None]:
        """Until when (ns) somebody must have restored the message, and who: a worker that lived so long.

        :param seen_back: when it came back: where nobody lived until it was due, whoever lived then will do.
        """
        due = [(sweeper.due(receipt.t, self.locked(receipt)), sweeper) for sweeper in self.sweepers(receipt)]
        binding = [(at, sweeper) for at, sweeper in due if at < min(sweeper.end, _FAR)]
        if not binding and seen_back is not None:
            binding = [(at, sweeper) for at, sweeper in due if sweeper.begin <= seen_back <= sweeper.end]
        return min(binding, key=lambda pair: pair[0], default=(_FAR, None))

    def _pair(self, story: _Story, one: Event, other: Event) -> Finding:
        restore = next((e for e in reversed(story.restores) if one.t < e.t <= other.t), None)
        reason = str(restore.attrs.get("reason")) if restore else "sweep"
        back, seen = restore or other, (other.t - one.t) / 1e9
        told = f"{story.task}: received by {one.source} at {view.at(self.history, one)}"
        told += f", again by {other.source} after {seen:.3f} s ({reason if restore else 'restore not seen'})"
        evidence = tuple(filter(None, (one, self._gone(one), restore, other)))

        def violated(why: str) -> Finding:
            return Finding("violated", f"{told}: {why}", seen, evidence)

        if not other.attrs.get("redelivered"):
            return violated("not marked as redelivered")
        if self.by and (restore is None or reason != _REASONS[self.by]):
            return violated(f"not by {self.by}")
        if reason == "sweep":
            if why := self._too_early(story, one, back):
                return violated(why)
            due, sweeper = self._due(one, back.t)
            if back.t > due and sweeper:
                return violated(f"too late, due by {view.at(self.history, int(due))} ({sweeper.told} + {SLACK:g} s)")
            bound = "nobody was bound to restore it"
            if sweeper:
                # Without a last instant the broker, or the worker's main process, was away until the run's end.
                until = f"due by {view.at(self.history, int(due))}: " if due < _FAR else ""
                bound = f"{until}{sweeper.told} + {SLACK:g} s"
        else:
            bound = f"given back by {back.source}"
        if self.within is not None:
            since = self._gone(one)
            took = (other.t - (view.ended_at(since) if since else one.t)) / 1e9
            if took > self.within:
                return violated(f"{took:.3f} s after its worker was gone, not within {self.within:g} s")
        return Finding("holds", f"{told}; {bound}", seen, evidence)

    def _gone(self, receipt: Event) -> Event | None:
        return view.gone_after(self.history, receipt.source, receipt.t)

    def _too_early(self, story: _Story, one: Event, back: Event) -> str | None:
        """Why the message came back before it could, if it did."""
        score = next((e for e in reversed(story.pops) if e.t <= one.t), one)
        alive = [s for s in self.sweepers(one) if s.begin <= back.t and s.end >= one.t]
        if not alive:
            return None
        soonest = min(alive, key=lambda sweeper: sweeper.timeout)
        lain = (back.t - score.t) / 1e9
        if lain >= soonest.timeout - EARLY:
            return None
        return f"too early, after {lain:.3f} s of a visibility timeout of {soonest.timeout:g} s ({soonest.source})"

    def _last(self, story: _Story, last: Event) -> Finding | None:
        """The finding on the last receipt: None where nothing was due after it."""
        done = next((e for e in story.settled if e.t >= last.t), None)
        if done is not None and (done.t - last.t) / 1e9 <= self.soonest(last):
            return None
        due, sweeper = self._due(last)
        if done is not None and done.t <= due:
            return None
        told = f"{story.task}: received by {last.source} at {view.at(self.history, last)}"
        evidence = tuple(filter(None, (last, self._gone(last), done)))
        if restored := [e for e in story.restores if e.t >= last.t]:
            return view.inconclusive(
                f"{told}, {view.told(self.history, restored[-1])}, then taken by nobody", *evidence
            )
        if sweeper is None:
            return view.inconclusive(f"{told}: no worker lived long enough to restore it", *evidence)
        if due > self.history.end:
            return view.inconclusive(
                f"{told}: due by {view.at(self.history, int(due))}, after the run's end", *evidence
            )
        why = f"{told}, never again, due by {view.at(self.history, int(due))} ({sweeper.told} + {SLACK:g} s)"
        return Finding("violated", why, 0, evidence)
