"""What several checks ask of a history: publishes, endings, lives of workers, the last look at the keys, and words."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import ORDER, History
from pytest_celery_chaos.history.verdict import Finding

#: States in which Celery does nothing more with a task: ``celery.states.READY_STATES``, and those of Reject and Ignore.
READY_STATES = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})

#: Events that say nothing about where a message is.
_ASIDE = frozenset({"send", "get", "control", "held", "released", "label", "joined", "chord", "chord_part"})


def inconclusive(why: str, *evidence: Event) -> Finding:
    """A finding that nothing can be said, and why."""
    return Finding("inconclusive", why, None, evidence)


def nothing_called(history: History, task: str | None) -> Finding:
    """The finding where *task* names no message of this history."""
    return inconclusive(f"nothing called {task!r} was published" if task else "nothing was published")


def together(history: History, one: str, other: str) -> bool:
    """Whether two processes (``worker:a``) share queues and `unacked`: applications may have keyspaces of their own."""
    found = [e.attrs["spaces"] for e in history.by_kind.get("run", ()) if "spaces" in e.attrs]
    spaces: Mapping[str, str] = found[0] if found else {}
    return bool(spaces.get(one) == spaces.get(other))


def first(events: Iterable[Event], kind: str, phase: str | None = None) -> Event | None:
    """The first event of a kind, and of a phase if one is given."""
    return next((e for e in events if e.kind == kind and (phase is None or e.phase == phase)), None)


def acknowledged(history: History, task: str | None) -> list[str]:
    """Ids whose publish was answered ``ok`` at least once: the broker has said that it has them."""
    return [one for one in history.ids(task) if first(history.by_task[one], "publish", "ok")]


def delivered(history: History, task: str | None) -> list[str]:
    """Ids that the broker has acknowledged, and those that arrived although nobody knew (Jepsen's *recovered*)."""
    kinds = ("popped", "received", "started")
    return [
        one
        for one in history.ids(task)
        if any(e.kind in kinds or (e.kind == "publish" and e.phase == "ok") for e in history.by_task[one])
    ]


def ending(events: Sequence[Event]) -> Event | None:
    """The event after which one task needs nothing more: it ended, was discarded, or rejected for good.

    A failure that goes with a requeue (`task_reject_on_worker_lost`) is no end, whichever comes first.
    """
    end: Event | None = None
    requeued: set[str] = set()
    for event in events:
        if event.kind == "received":
            requeued.discard(event.source)
        elif event.kind == "reject" and event.phase == "ok" and event.attrs.get("requeue"):
            requeued.add(event.source)
            if end is not None and end.kind == "failed" and end.source == event.source:
                end = None
        elif end is None and _ends(event) and not (event.kind == "failed" and event.source in requeued):
            end = event
    return end


def _ends(event: Event) -> bool:
    if event.kind in ("succeeded", "failed", "revoked"):
        return True
    if event.kind == "store":
        return event.phase == "ok" and event.attrs.get("state") in READY_STATES
    if event.kind == "reject":
        return event.phase == "ok" and not event.attrs.get("requeue")
    return event.kind == "raised" and event.attrs.get("error") == "Ignore"


@dataclass(frozen=True)
class Keys:
    """One look at the keys of broker and backend.

    :param kept: ids that wait in a queue or are noted as unacknowledged.
    """

    event: Event
    queues: Mapping[str, Sequence[str]]
    unacked: Mapping[str, str]
    index: Mapping[str, float]
    mutex: bool
    results: Mapping[str, str]
    kept: frozenset[str]


def keys_of(snapshot: Event) -> Keys | None:
    """A snapshot as a value; None where the servers did not answer it."""
    attrs: Mapping[str, Any] = snapshot.attrs
    if not isinstance(attrs.get("queues"), Mapping) or not isinstance(attrs.get("unacked"), Mapping):
        return None
    index, results = attrs.get("index") or {}, attrs.get("results") or {}
    kept = frozenset(one for queue in attrs["queues"].values() for one in queue) | frozenset(attrs["unacked"].values())
    return Keys(snapshot, attrs["queues"], attrs["unacked"], index, bool(attrs.get("mutex")), results, kept)


def last_keys(history: History) -> Keys | None:
    """The last snapshot that was answered: the authority on what is left at the end."""
    return next(filter(None, map(keys_of, reversed(history.of("snapshot")))), None)


def last_move(events: Sequence[Event]) -> Event | None:
    """The last event that says where a message is."""
    return next((e for e in reversed(events) if e.kind not in _ASIDE), None)


def ended_at(offline: Event) -> int:
    """When a process ended (ns): reaped a little before the event could be written."""
    reaped = offline.attrs.get("reaped")
    return reaped if isinstance(reaped, int) and reaped <= offline.t else offline.t


def signal_number(signal: object) -> int:
    """The number of a signal given as ``KILL``, ``SIGKILL`` or 9; 0 where there is no such signal."""
    if isinstance(signal, int):
        return signal
    name = str(signal).upper().removeprefix("SIG")
    return int(signals.Signals[f"SIG{name}"]) if f"SIG{name}" in signals.Signals.__members__ else 0


def how_it_ended(offline: Event) -> str:
    """``signal SIGKILL`` or ``code 1``."""
    signal = offline.attrs.get("signal")
    if not signal:
        return f"code {offline.attrs.get('code')}"
    number = signal_number(signal)
    known = number in {member.value for member in signals.Signals}
    return f"signal {signals.Signals(number).name if known else signal}"


def gone_after(history: History, source: str, t: int) -> Event | None:
    """The end (``offline``) of the life of *source* that went on at instant *t*."""
    return next((e for e in history.by_kind.get("offline", ()) if e.source == source and ended_at(e) >= t), None)


def alive_at(history: History, source: str, since: int, t: int) -> bool:
    """Whether the life of *source* that went on at *since* still went on at *t*."""
    gone = gone_after(history, source, since)
    return gone is None or ended_at(gone) > t


def at_the_end(history: History, gone: Event) -> bool:
    """Whether it was the harness that ended a process, when all was over."""
    over = [*history.of("quiet"), *history.of("observed")]
    return bool(over) and ended_at(gone) >= over[0].t


def lost_child(history: History, event: Event) -> Event | None:
    """The end (``child_down``) of the pool process that *event* happened in, after it."""
    for down in history.by_kind.get("child_down", ()):
        if down.source == event.source and down.t >= event.t and down.attrs.get("child") == event.pid:
            return down
    return None


def step_time(history: History, step: str, *, begun: bool = False) -> Event | None:
    """When the step called *step* was done: its fault applied, else the step itself.

    :param begun: rather when it began.
    """
    phase = "invoke" if begun else "ok"
    for kind in ("fault", "step"):
        for event in history.by_kind.get(kind, ()):
            if event.attrs.get("name") == step and event.phase == phase:
                return event
    return None


def at(history: History, when: Event | int) -> str:
    """``1.234 s``, since the run's start."""
    return f"{history.seconds(when):.3f} s"


def told(history: History, event: Event) -> str:
    """One event in words: ``ack ok by worker:a at 1.234 s``."""
    what = event.kind + (f" {event.phase}" if event.phase else "")
    return f"{what} by {event.source} at {at(history, event)}"


def story(history: History, events: Iterable[Event], last: int = 6) -> str:
    """The last of some events in words, in order."""
    return ", ".join(told(history, event) for event in sorted(events, key=ORDER)[-last:])


def some(ids: Sequence[str], most: int = 3) -> str:
    """A few of many ids."""
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def first_of(ids: Sequence[str]) -> str:
    """The first of several ids, of which more is told, and a few of the others."""
    return ids[0] + (f" (also {some(ids[1:])})" if len(ids) > 1 else "")


def plural(count: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def often(count: int) -> str:
    """``once``, ``3 times``."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def somebody_listened(history: History) -> bool:
    """Whether a worker waited for messages after the first publish: that it got none then says something of them."""
    since = min((event.t for event in history.of("publish", "invoke")), default=None)
    if since is None:
        return False
    for event in history.of("consuming"):
        ends = [e.t for e in history.of("offline", source=event.source) if e.t > event.t]
        if event.t >= since or not ends or ends[0] > since:
            return True
    return False
