"""Whether ``celery beat`` publishes what is scheduled when it is due, and knows over its own death what it has done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, TaskRef

#: Seconds by which beat aims too early: ``Scheduler.adjust`` takes 10 ms, and the clocks of two lives may differ.
_EARLY = 0.1


@dataclass(frozen=True)
class _Life:
    """One life of one beat.

    :param ticking: its first tick, at *begin* (ns). *end*: when it ended, or the run's end.
    """

    ticking: Event
    begin: int
    end: int


@dataclass(frozen=True)
class _Miss:
    """A publish that came too early or too late, or (*event* None) not at all."""

    seconds: float
    event: Event | None
    last: Event | None
    life: _Life


def on_schedule(
    history: History,
    *,
    entry: TaskRef,
    which: Literal["early", "late"] | None = None,
    every: Duration | None = None,
    slack: Duration = 1.0,
) -> Finding:
    """Beat must publish an entry of its schedule once in each period: not sooner after the last time, and not later.

    The time counts from the last publish that the broker has taken, over the death of its beat. What falls due while no
    beat lives is due when the next one ticks. Where several beats publish the same entry, each publish counts.

    *seen*: how many publishes came too early or too late; one that is overdue at the end of its beat is late, too.
    Inconclusive where beat published the entry less than twice and nothing was overdue.

    :param entry: the entry's name in ``schedule``, or its task's name.
    :param which: only what came too ``early``, or too ``late``.
    :param every: seconds between two publishes; default: what beat reported.
    :param slack: seconds that a publish may be late.
    """
    lives = list(_lives(history))
    period = every if every is not None else _period(lives, entry)
    if period is None:
        return view.inconclusive(f"no beat has an entry called {entry!r}")
    published = list(_published(history, entry))
    misses = [*_early(published, lives, period), *_late(published, lives, period, slack)]
    chosen = [miss for kind, miss in misses if which in (None, kind)]
    if chosen:
        first = chosen[0]
        why = f"{len(chosen)} of {len(published)} not on schedule (every {period:g} s); {_told(history, first)}"
        return Finding("violated", why, len(chosen), tuple(e for e in (first.last, first.event) if e is not None))
    if len(published) < 2:
        return view.inconclusive(f"{entry!r} was published {view.often(len(published))}: nothing to compare")
    return Finding("holds", f"published {view.often(len(published))}, once every {period:g} s", 0)


def remembers(history: History, *, entry: TaskRef) -> Finding:
    """A beat that starts again must know how often an entry has been published by the lives before it.

    What it does not know of it publishes again; where it knows of nothing, it counts a whole period from its start.

    *seen*: of how many publishes it did not know; less than 0 where it believed in some that never were. Inconclusive
    where no beat started again after a publish, or where several publish the same entry.

    :param entry: the entry's name in ``schedule``, or its task's name.
    """
    begun = [e for e in history.of("publish", "invoke", task=entry) if e.source.startswith("beat:")]
    sources = {event.source for event in begun}
    if len(sources) != 1:
        return view.inconclusive(f"{entry!r} was published by {len(sources)} beats")
    firsts: dict[str, Event] = {}
    for event in begun:  # one that is tried again has a publish of its own each time
        firsts.setdefault(str(event.task), event)
    known: list[tuple[int, int, Event]] = []
    for ticking in history.of("ticking", source=begun[0].source):
        told = _entry(ticking, entry)
        before = sum(event.t < ticking.t for event in firsts.values())
        if before and told is not None:
            known.append((before - int(told.get("count", 0)), before, ticking))
    if not known:
        return view.inconclusive(f"no beat started again after it had published {entry!r}")
    missing, before, ticking = max(known, key=lambda found: abs(found[0]))
    counts = f"{before - missing} of {view.plural(before, 'run')}"
    why = f"{ticking.source} at {view.at(history, ticking)} knew of {counts} of {entry!r}"
    return Finding("violated" if missing else "holds", why, missing, (ticking,))


def _entry(ticking: Event, entry: str) -> Mapping[str, Any] | None:
    """What a beat reported of the entry of that name, or else of one of that task."""
    entries: Mapping[str, Any] = ticking.attrs.get("entries") or {}
    return entries.get(entry) or next((told for told in entries.values() if told.get("task") == entry), None)


def _lives(history: History) -> Iterator[_Life]:
    for ticking in history.of("ticking"):
        gone = view.gone_after(history, ticking.source, ticking.t)
        yield _Life(ticking, ticking.t, view.ended_at(gone) if gone else history.end)


def _period(lives: Sequence[_Life], entry: str) -> float | None:
    """What beat reported of the entry of that name, or of one of that task."""
    for life in lives:
        told = _entry(life.ticking, entry)
        if told is not None and isinstance(told.get("every"), (int, float)):
            return float(told["every"])
    return None


def _published(history: History, entry: str) -> Iterator[Event]:
    """The beginning of each publish by a beat that the broker has taken."""
    for begin in history.of("publish", "invoke", task=entry):
        events = history.by_task[str(begin.task)]
        if begin.source.startswith("beat:") and view.first(events, "publish", "ok"):
            yield begin


def _early(published: Sequence[Event], lives: Sequence[_Life], period: float) -> Iterator[tuple[str, _Miss]]:
    for last, event in pairwise(published):
        missing = period - (event.t - last.t) / 1e9
        if missing > _EARLY:
            yield "early", _Miss(-missing, event, last, _life_of(lives, event.t))


def _late(
    published: Sequence[Event], lives: Sequence[_Life], period: float, slack: float
) -> Iterator[tuple[str, _Miss]]:
    previous: Sequence[Event | None] = [None, *published]
    for last, event in zip(previous, published, strict=False):
        life = _life_of(lives, event.t)
        over = (event.t - _due(last, life, lives, period)) / 1e9
        if over > slack:
            yield "late", _Miss(over, event, last, life)
    for life in lives:
        last = next((e for e in reversed(published) if e.t < life.end), None)
        over = (life.end - _due(last, life, lives, period)) / 1e9
        if over > slack:
            yield "late", _Miss(over, None, last, life)


def _due(last: Event | None, life: _Life, lives: Sequence[_Life], period: float) -> int:
    """When the next publish after *last* is due; a first one counts from the first tick of the first life."""
    since = last.t if last is not None else lives[0].begin
    return max(since + round(period * 1e9), life.begin)


def _life_of(lives: Sequence[_Life], t: int) -> _Life:
    """The life that *t* lies in; of several beats the one that began last."""
    return next((life for life in reversed(lives) if life.begin <= t), lives[0])


def _told(history: History, miss: _Miss) -> str:
    before = f"the last one at {view.at(history, miss.last)}" if miss.last else "none before"
    if miss.event is None:
        return f"overdue by {miss.seconds:.3f} s when {miss.life.ticking.source} ended ({before})"
    how = "late" if miss.seconds > 0 else "early"
    when = f"{abs(miss.seconds):.3f} s too {how} at {view.at(history, miss.event)}"
    return f"{miss.event.source} published {when} ({before})"
