"""Dropping, doubling and moving events: never a traceback, and never a clean verdict on a damaged record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_celery_chaos.checks.judge import judge
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import Header, History

from .story import START, Story

EXPECT: list[dict[str, Any]] = [
    {"check": "completed", "args": {"task": "add", "within": 20.0}},
    {"check": "executions", "args": {"task": "t1", "exactly": 2}},
    {"check": "overlap", "args": {"task": "add"}},
    {"check": "redelivered", "args": {"task": "t1", "within": 10.0}},
    {"check": "never_started", "args": {"task": "t3"}},
    {"check": "requeued", "args": {"task": "t2", "worker": "a"}},
    {"check": "exits", "args": {"worker": "a", "within": 5.0, "signal": "KILL"}},
    {"check": "consumes", "args": {"within": 5.0, "worker": "b", "since": "death"}},
    {"check": "loop", "args": {"task": "t1"}},
    {"check": "latency", "args": {"of": "redelivery", "max": 10.0}},
    {"check": "returns", "args": {"call": "publish", "within": 5.0}},
]
HAZARD = {"seen": 1, "ref": "KF-1", "where": {"kombu": "<5.7", "pool": "solo", "server": "redis<7"}}
PLAN = {"scenario": "s", "variant": None, "expect": [*EXPECT, {"check": "lost", "args": {}, "hazards": [HAZARD]}]}


def told() -> list[Event]:
    """A run with something for every check, in which all of them hold."""
    story = Story().worker("a").worker("b").send("t1", "t2").send("t3", name="job").at(1)
    story.takes("a", "t1").starts("a", "t1").takes("a", "t2").takes("b", "t3").revoke("t3", heard_by=["a", "b"])
    story.discards("b", "t3").acks("b", "t3")
    story.restores("a", "t2", "shutdown").kill("a", name="death").looks(queues={"celery": ["t2"]}, unacked=["t1"])
    story.works("b", "t2", redelivered=True).at(3.5)
    story.event("worker:b", "sweep", "invoke").restores("b", "t1").event("worker:b", "sweep", "ok", restored=1)
    return story.works("b", "t1", redelivered=True).ends().events


EVENTS = told()


def verdict_on(events: list[Event]) -> str:
    return judge(History(events, Header("r1", START, 0)), PLAN).value


def last_of_its_process(event: Event) -> bool:
    """No number after it can tell that it is missing."""
    who = (event.by or event.source, event.pid)
    return event is [e for e in EVENTS if (e.by or e.source, e.pid) == who][-1]


def test_the_whole_record_holds() -> None:
    verdict = judge(History(EVENTS, Header("r1", START, 0)), PLAN)
    assert verdict.value == "holds", verdict.why


def test_a_dropped_event_is_never_passed_over() -> None:
    for index, event in enumerate(EVENTS):
        value = verdict_on(EVENTS[:index] + EVENTS[index + 1 :])
        if not last_of_its_process(event):
            assert value == "inconclusive", event
    assert verdict_on(EVENTS[:-1]) == "inconclusive", "the end itself is missing"


def test_a_record_cut_off_anywhere_is_never_clean() -> None:
    for length in range(len(EVENTS)):
        assert verdict_on(EVENTS[:length]) not in ("holds", "hazard")


def test_a_doubled_event_is_never_passed_over() -> None:
    for event in EVENTS:
        assert verdict_on([*EVENTS, event]) == "inconclusive", event


def test_an_event_with_another_number_is_never_passed_over() -> None:
    for index, event in enumerate(EVENTS):
        assert verdict_on([*EVENTS[:index], replace(event, n=event.n + 1), *EVENTS[index + 1 :]]) == "inconclusive"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(range(len(EVENTS))), st.floats(-10, 10))
def test_an_event_that_stands_before_an_older_one_is_never_passed_over(index: int, seconds: float) -> None:
    event = EVENTS[index]
    moved = replace(event, t=event.t + round(seconds * 1e9))
    who = (event.by or event.source, event.pid)
    mine = [e for e in EVENTS if (e.by or e.source, e.pid) == who and e is not event]
    disorder = max((abs(e.t - moved.t) for e in mine if (e.t > moved.t) != (e.n > event.n)), default=0)
    value = verdict_on([*EVENTS[:index], moved, *EVENTS[index + 1 :]])
    if disorder > 60_000_000:
        assert value == "inconclusive"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=60), st.randoms())
def test_any_heap_of_events_gets_a_verdict(events: list[Event], random: Any) -> None:
    random.shuffle(events)
    assert verdict_on(events) != "holds"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(range(len(EVENTS))),
    st.sampled_from(["kind", "phase", "task", "source", "attrs"]),
    st.integers(0, 3),
)
def test_an_event_with_a_strange_field_gets_a_verdict(index: int, field: str, which: int) -> None:
    strange: dict[str, list[Any]] = {
        "kind": ["unheard_of", "started", "offline", "snapshot"],
        "phase": [None, "ok", "fail", "unknown"],
        "task": [None, "t1", "t2", "t9"],
        "source": ["worker:a", "worker:z", "client:main", "nobody"],
        "attrs": [
            {},
            {"queues": 7, "rules": 3},
            {"settings": "none", "versions": 5, "ids": "t1"},
            {"tag": None, "reason": 5},
        ],
    }
    changed = replace(EVENTS[index], **{field: strange[field][which]})
    verdict_on([*EVENTS[:index], changed, *EVENTS[index + 1 :]])
