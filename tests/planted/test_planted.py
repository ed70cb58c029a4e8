"""Bugs planted in real workers: the plan holds without the bug, and with it the right check names the right task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_celery_chaos.engine.plan import Expectation, Moment, Plan

from .plans import Outcome, plan, step, worker


@dataclass(frozen=True)
class Planted:
    """A bug, the plan that must catch it, and the check that names it.

    :param make: the plan with the bug called so, or None, in one of its workers.
    :param check: the check that must be violated, *seen*: by what figure.
    """

    bug: str
    make: Callable[[str | None], Plan]
    check: str
    seen: int

    def __str__(self) -> str:
        return self.bug


def _others() -> list[object]:
    """Tasks that nothing happens to: no finding may name them."""
    return [step("send", task="add", times=3, name="others"), step("wait", at="settled", task="others", nth=3)]


def acks_early(bug: str | None) -> Plan:
    return plan(
        "acks early",
        [worker("a", bug=bug), worker("b", start=False)],
        [
            *_others(),
            step("kill", worker="a", when=Moment(before="run", task="job")),
            step("send", task="count", name="job"),
            step("wait", at="offline", worker="a"),
            step("start", worker="b"),
        ],
        Expectation("redelivered", {"task": "job"}),
    )


def drops_redeliveries(bug: str | None) -> Plan:
    return plan(
        "drops redeliveries",
        [worker("a"), worker("b", start=False, bug=bug)],
        [
            *_others(),
            step("kill", worker="a", when=Moment(after="record", task="job")),
            step("send", task="count", name="job"),
            step("wait", at="offline", worker="a"),
            step("start", worker="b"),
        ],
        Expectation("redelivered", {"task": "job"}),
    )


def forgets_revokes(bug: str | None) -> Plan:
    return plan(
        "forgets revokes",
        [worker("a", bug=bug)],
        [
            *_others(),
            # In a queue that the worker takes nothing from before it knows of the revoke.
            step("send", task="count", queue="later", name="job"),
            step("revoke", task="job"),
            step("wait", at="revoke", task="job"),
            step("control", command="add_consumer", args={"queue": "later"}),
        ],
        Expectation("never_started", {"task": "job"}),
    )


def one_after_the_other(bug: str | None) -> Plan:
    """The bug is in the second message."""
    return plan(
        str(bug),
        [worker("a", bug=bug)],
        [
            step("send", task="add", name="others"),
            step("wait", at="settled", task="others"),
            step("send", task="count", name="job"),
        ],
        Expectation("executions", {"task": "job", "max": 1}),
        quiet=7.0,
    )


def exits(bug: str | None) -> Plan:
    return plan(
        "exits",
        [worker("a", bug=bug), worker("b", start=False)],
        [
            step("send", task="add", name="others"),
            step("wait", at="settled", task="others"),
            step("send", task="count", name="job"),
            step("start", worker="b"),
        ],
        Expectation("completed", {"task": "job"}),
    )


ALL = [
    Planted("acks_early", acks_early, "lost", 1),
    Planted("drops_redeliveries", drops_redeliveries, "lost", 1),
    Planted("forgets_revokes", forgets_revokes, "never_started", 1),
    Planted("swallows", one_after_the_other, "lost", 1),
    Planted("exits", exits, "workers_alive", 1),
    Planted("runs_twice", one_after_the_other, "executions", 2),
]


@pytest.mark.parametrize("planted", ALL, ids=str)
def test_without_its_bug_the_plan_holds(planted: Planted, carry_out: Callable[[Plan], Outcome]) -> None:
    outcome = carry_out(planted.make(None))
    assert outcome.verdict.value == "holds", outcome.story()
    assert outcome.of(planted.check).outcome == "as_recorded", outcome.story()


@pytest.mark.parametrize("planted", ALL, ids=str)
def test_a_planted_bug_is_caught(planted: Planted, carry_out: Callable[[Plan], Outcome]) -> None:
    outcome = carry_out(planted.make(planted.bug))
    assert outcome.verdict.value == "violated", outcome.story()
    judgement = outcome.of(planted.check)
    assert (judgement.outcome, judgement.finding.seen) == ("violated", planted.seen), outcome.story()
    (job,) = outcome.ids("job")
    evidence = judgement.finding.evidence
    if planted.check == "workers_alive":
        assert [(e.kind, e.source) for e in evidence] == [("offline", "worker:a")]
        assert outcome.of("completed").outcome == "as_recorded", "worker b finished what a left"
    else:
        assert {event.task for event in evidence} - {None} == {job}, outcome.story()
        assert job in judgement.why
