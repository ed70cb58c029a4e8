"""When an unacknowledged message is due to come back, by the settings that the workers reported as in force.

kombu restores what has lain in ``unacked`` longer than ``visibility_timeout``, whenever some worker sweeps: when it
connects, and then each ``unacked_restore_interval * unacked_restore_throttle`` seconds. The options exist since
kombu 5.7; before, the period is always 100 s (K#2558, C#6229).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History

#: kombu.transport.redis.Channel
VISIBILITY_TIMEOUT, INTERVAL, THROTTLE, MUTEX_EXPIRE = 3600.0, 10.0, 10.0, 300.0

#: What a sweep may be late by on a busy machine, and what the way from the queue to the worker may take (s).
SLACK = 2.0

#: The entry's score is the worker's wall clock, our times are monotonic: they may drift apart so much in a run (s).
EARLY = 0.05


@dataclass(frozen=True)
class Sweeper:
    """One life of one worker, as a sweeper of unacknowledged messages.

    :param timeout: its ``visibility_timeout``, s. *period*: seconds between two of its sweeps.
    :param begin: when it connected (ns): it sweeps then. *end*: when it was gone.
    :param blocked: spans (ns) in which it could not sweep: paused, held, busy in pool solo, or its broker away.
    """

    source: str
    timeout: float
    period: float
    begin: int
    end: float
    blocked: Sequence[tuple[int, float]]
    mutex_expire: float

    def due(self, received: int, locked: Sequence[tuple[int, float]]) -> float:
        """Until when this worker has restored a message received at *received* (ns), if it lives so long.

        :param locked: spans in which the lock of a killed sweeper kept everybody from sweeping.
        """
        expired = received + self.timeout * 1e9
        at = float(self.begin) if self.begin >= expired else expired + self.period * 1e9
        if (free := _free(locked, at)) > at:  # tried again one period after the lock has expired
            at = free + self.period * 1e9
        return _free(self.blocked, at) + SLACK * 1e9

    @property
    def told(self) -> str:
        return f"visibility timeout {self.timeout:g} s + sweep {self.period:g} s of {self.source}"


def sweepers(history: History) -> list[Sweeper]:
    """All lives of all workers that said ready."""
    found = []
    away = _broker_away(history)
    for ready in history.of("ready"):
        gone = view.gone_after(history, ready.source, ready.t)
        timeout, period, expire = settings_of(ready)
        end = float(view.ended_at(gone)) if gone else float("inf")
        blocked = _merged([*_blocked(history, ready, end), *away])
        found.append(Sweeper(ready.source, timeout, period, ready.t, end, blocked, expire))
        for back in history.of("connection_back", source=ready.source):
            if ready.t < back.t < end:
                found.append(Sweeper(ready.source, timeout, period, back.t, end, blocked, expire))
    return found


def settings_of(ready: Event) -> tuple[float, float, float]:
    """Visibility timeout, sweep period and expiry of the sweep's lock in force, in seconds."""
    settings: Mapping[str, Any] = ready.attrs.get("settings") or {}
    options: Mapping[str, Any] = settings.get("broker_transport_options") or {}

    def in_force(name: str, default: float) -> float:
        value = settings.get(name, options.get(name))
        return float(value) if isinstance(value, (int, float)) and value > 0 else default

    interval, throttle = in_force("unacked_restore_interval", INTERVAL), in_force("unacked_restore_throttle", THROTTLE)
    kombu = str((ready.attrs.get("versions") or {}).get("kombu", "5.7")).split(".")
    if [int(part) if part.isdigit() else 0 for part in kombu[:2]] < [5, 7]:
        interval, throttle = INTERVAL, THROTTLE
    timeout = in_force("visibility_timeout", VISIBILITY_TIMEOUT)
    return timeout, interval * throttle, in_force("unacked_mutex_expire", MUTEX_EXPIRE)


def mutex_left(history: History, source: str) -> list[tuple[int, float]]:
    """Spans in which the lock of the sweep lay there, for *source*, after its owner had been killed with it."""
    spans: list[tuple[int, float]] = []
    for gone in history.of("offline"):
        sweeps = [e for e in history.by_kind.get("sweep", ()) if e.source == gone.source and e.t <= gone.t]
        if gone.attrs.get("signal") is None or not sweeps or not view.together(history, gone.source, source):
            continue
        last = sweeps[-1]
        # The lock is released right behind `ok`: it stays only if the worker was held there until it was killed.
        held = (
            e for e in history.by_kind.get("held", ()) if last.t <= e.t <= gone.t and e.attrs.get("event") == "sweep"
        )
        let_go = any(last.t <= e.t <= gone.t for e in history.of("released", source=last.source))
        at_ok = any(e.attrs.get("source_of") == last.source for e in held) and not let_go
        if last.phase == "invoke" or at_ok:
            ready = history.of("ready", source=gone.source)
            expire = settings_of(ready[-1])[2] if ready else MUTEX_EXPIRE
            spans.append((last.t, last.t + expire * 1e9))
    return _merged(spans)


def _merged(spans: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same time in spans that are in order and do not touch."""
    merged: list[tuple[int, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _free(spans: Sequence[tuple[int, float]], at: float) -> float:
    """The instant *at*, or the end of the (merged) span that it lies in."""
    index = bisect_right(spans, (at, float("inf"))) - 1
    return max(at, spans[index][1]) if index >= 0 else at


def _blocked(history: History, ready: Event, end: float) -> list[tuple[int, float]]:
    """When the main process of this life could do nothing."""
    name, source = ready.name, ready.source
    spans: list[tuple[int, float]] = []
    for lost in history.of("connection_lost", source=source):
        back = next((e for e in history.of("connection_back", source=source) if e.t >= lost.t), None)
        spans.append((lost.t, back.t if back else end))
    starts = [
        e for e in history.of("fault", "ok") if e.attrs.get("verb") == "pause" and _acts_on(history, e, worker=name)
    ]
    for pause in starts:
        spans.append((pause.t, _next(history, "heal", pause) or _next(history, "resume", pause) or end))
    for held in history.by_kind.get("held", ()):
        if held.attrs.get("source_of") == source:
            free = next((e for e in history.of("released", source=source) if e.t >= held.t), None)
            spans.append((held.t, free.t if free else end))
    if ready.attrs.get("pool") == "solo":
        for start in history.of("started", source=source):
            done = next((e for e in _after(history, start) if e.kind in ("returned", "raised")), None)
            spans.append((start.t, done.t if done else end))
    return spans


def _after(history: History, start: Event) -> list[Event]:
    events = history.by_task.get(start.task or "", ())
    return [e for e in events if e.t > start.t and (e.source, e.pid) == (start.source, start.pid)]


def _broker_away(history: History) -> list[tuple[int, float]]:
    """When the broker did not answer: gone, or frozen."""
    spans: list[tuple[int, float]] = []
    for gone in history.of("offline", source="broker:main"):
        back = next((e for e in history.of("online", source="broker:main") if e.t >= gone.t), None)
        spans.append((view.ended_at(gone), back.t if back else float("inf")))
    for pause in history.of("fault", "ok"):
        if pause.attrs.get("verb") == "pause" and _acts_on(history, pause, broker="main"):
            until = _next(history, "heal", pause) or _next(history, "resume", pause)
            spans.append((pause.t, until or float("inf")))
    return spans


def _acts_on(history: History, fault: Event, **whom: str) -> bool:
    """Whether a fault was on that worker or broker: its arguments stand on the event that began it."""
    index = fault.attrs.get("index")
    begun = [e for e in history.of("fault", "invoke") if e.attrs.get("index") == index and e.t <= fault.t]
    return any(whom.items() <= (e.attrs.get("args") or {}).items() for e in begun[-1:])


def _next(history: History, how: str, pause: Event) -> int | None:
    """When a pause was over: healed, or resumed by a step."""
    if how == "heal":
        same = (e for e in history.of("heal", "ok") if e.attrs.get("index") == pause.attrs.get("index"))
        return next((e.t for e in same if e.t >= pause.t), None)
    return next((e.t for e in history.of("fault", "ok") if e.attrs.get("verb") == "resume" and e.t >= pause.t), None)
