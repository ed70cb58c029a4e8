"""Leaks and loops planted in real workers: without the bug the plan holds, with it the right check says what leaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_celery_chaos.engine.plan import Expectation, Plan

from .plans import Outcome, plan, step, worker

CarryOut = Callable[[Plan], Outcome]
#: More than what pools open on their first use.
MANY = 25


def leaking(bug: str | None) -> Plan:
    """Two messages, then many; what is stored and who is connected is judged."""
    return plan(
        str(bug),
        [worker("a", bug=bug)],
        [
            step("send", task="add", name="others"),
            step("wait", at="settled", task="others"),
            step("send", task="count", name="job"),
            step("wait", at="settled", task="job"),
            step("send", task="add", times=MANY, name="many"),
        ],
        *(Expectation(check, {}) for check in ("leaked_keys", "connections", "ttl", "foreign_keys", "bindings")),
    )


def looping(bug: str | None) -> Plan:
    return plan(
        str(bug),
        [worker("a", bug=bug)],
        [
            step("send", task="add", name="others"),
            step("wait", at="settled", task="others"),
            step("send", task="count", name="job"),
        ],
        Expectation("loop", {"task": "count"}),
        Expectation("loop", {"task": "add"}),
        observe=3.0,
    )


@pytest.mark.parametrize("make", [leaking, looping])
def test_without_a_bug_the_plan_holds(make: Callable[[str | None], Plan], carry_out: CarryOut) -> None:
    outcome = carry_out(make(None))
    assert outcome.verdict.value == "holds", outcome.story()


def bad(outcome: Outcome) -> dict[str, float | None]:
    """The checks that are not as recorded, and what they saw."""
    return {j.check: j.finding.seen for j in outcome.verdict.judgements if j.outcome != "as_recorded"}


def test_a_leaked_key_is_found_and_named(carry_out: CarryOut) -> None:
    outcome = carry_out(leaking("leaks_keys"))
    assert outcome.verdict.value == "violated", outcome.story()
    assert bad(outcome) == {"leaked_keys": 1, "ttl": 1}, outcome.story()
    assert ".reply.celery.pidbox" in outcome.of("leaked_keys").why
    assert "of role reply in main/0" in outcome.of("leaked_keys").why


def test_leaked_connections_are_found_with_their_process(carry_out: CarryOut) -> None:
    outcome = carry_out(leaking("leaks_connections"))
    assert outcome.verdict.value == "violated", outcome.story()
    found = bad(outcome)
    assert list(found) == ["connections"], outcome.story()
    assert MANY <= (found["connections"] or 0) <= 3 * (MANY + 5), outcome.story()
    assert "worker:a" in outcome.of("connections").why


def test_a_redelivery_loop_is_found_and_still_goes_on(carry_out: CarryOut) -> None:
    outcome = carry_out(looping("loops"))
    assert outcome.verdict.value == "violated", outcome.story()
    found = [j for j in outcome.verdict.judgements if j.check == "loop" and j.outcome == "violated"]
    assert [j.args["task"] for j in found] == ["count"], outcome.story()
    (judgement,) = found
    (job,) = outcome.ids("job")
    assert (judgement.finding.seen or 0) > 10, outcome.story()
    assert "still went on" in judgement.why
    assert {event.task for event in judgement.finding.evidence} == {job}
