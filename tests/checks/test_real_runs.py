"""Histories of real runs: judged as they were then, and never clean once an event is dropped, doubled or moved."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.checks.judge import judge
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History

RUNS = Path(__file__).parent / "runs"
VALUES = {
    "late-ack-killed": "holds",
    "longer-than-timeout": "hazard",
    "revoked-killed": "hazard",
    "warm-shutdown": "holds",
    "chord-in-order": "holds",
    "beat-killed": "holds",
    "connection-lost": "holds",
}

each_run = pytest.mark.parametrize("name", VALUES)


@cache
def recorded(name: str) -> tuple[History, dict[str, Any]]:
    return History.load(RUNS / name), json.loads((RUNS / name / "plan.json").read_text())


def value_of(name: str, events: list[Event]) -> str:
    history, plan = recorded(name)
    return judge(History(events, history.header), plan).value


@each_run
def test_it_is_judged_as_it_was(name: str) -> None:
    history, plan = recorded(name)
    verdict = judge(history, plan)
    assert verdict.value == VALUES[name], verdict.why


@each_run
def test_a_dropped_event_is_never_passed_over(name: str) -> None:
    events = list(recorded(name)[0].events)
    # The last event of a process has no number behind it that could tell; the harness's own last is the run's end.
    last = {(e.by or e.source, e.pid): e for e in events}
    for index, event in enumerate(events):
        value = value_of(name, events[:index] + events[index + 1 :])
        if event is not last[event.by or event.source, event.pid] or event.kind == "end":
            assert value == "inconclusive", event


@each_run
def test_a_doubled_event_is_never_passed_over(name: str) -> None:
    events = list(recorded(name)[0].events)
    for event in events:
        assert value_of(name, [*events, event]) == "inconclusive", event


@each_run
@pytest.mark.parametrize("seconds", [-2.0, 2.0])
def test_an_event_moved_past_others_of_its_process_is_never_passed_over(name: str, seconds: float) -> None:
    events = list(recorded(name)[0].events)
    for index, event in enumerate(events):
        moved = replace(event, t=event.t + round(seconds * 1e9))
        mine = [
            e for e in events if (e.by or e.source, e.pid) == (event.by or event.source, event.pid) and e is not event
        ]
        passed = [e for e in mine if (e.n > event.n) != (e.t > moved.t) and abs(e.t - moved.t) > 60_000_000]
        value = value_of(name, [*events[:index], moved, *events[index + 1 :]])
        if passed:
            assert value == "inconclusive", (event, passed[0])


@each_run
def test_a_run_cut_off_anywhere_is_never_clean(name: str) -> None:
    events = list(recorded(name)[0].events)
    for length in range(len(events)):
        assert value_of(name, events[:length]) not in ("holds", "hazard")
