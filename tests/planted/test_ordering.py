"""Groups and chords: the plan holds without the bug, and with it the right check says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_celery_chaos.clients.spec import ClientSpec
from pytest_celery_chaos.engine.plan import AppSpec, Expectation, Plan
from pytest_celery_chaos.workloads.parts import Many

from .plans import BUGS, Outcome, plan, step, worker

CarryOut = Callable[[Plan], Outcome]
#: Beside what is broken stands a group or a chord that nothing happens to.
OTHERS = [step("send", task="add", times=3, name="others")]


def of_a_group(client: ClientSpec) -> Plan:
    """A group of four, read by that client."""
    steps = [*OTHERS, step("group", task="echo", numbered=4, name="job"), step("get", task="job")]
    return plan("group", [worker()], steps, Expectation("ordered", {"task": "job"}), clients={client.name: client})


def of_a_chord(bug: str | None, *, pool: str = "prefork") -> Plan:
    steps = [*OTHERS, step("chord", header=Many("echo", numbered=4), name="job"), step("get", task="job")]
    checks = [Expectation(check, {"task": "job"}) for check in ("ordered", "body_once")]
    return plan("chord", [worker(bug=bug, pool=pool)], steps, *checks)


def test_results_of_a_group_in_the_wrong_order(carry_out: CarryOut) -> None:
    outcome = carry_out(of_a_group(ClientSpec("main")))
    assert outcome.verdict.value == "holds", outcome.story()
    broken = ClientSpec("web", app="broken", env={"PYTHONPATH": str(BUGS)})
    outcome = carry_out(replace(of_a_group(broken), apps={"broken": AppSpec("shuffles_groups:app")}))
    judgement = outcome.of("ordered")
    assert (judgement.outcome, judgement.finding.seen) == ("violated", 4), outcome.story()
    assert "client:web" in judgement.why


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_chord_in_order_and_its_body_once(carry_out: CarryOut, pool: str) -> None:
    assert carry_out(of_a_chord(None, pool=pool)).verdict.value == "holds"


@pytest.mark.parametrize(
    ("bug", "check", "other", "seen"),
    [("shuffles_chords", "ordered", "body_once", 4), ("body_twice", "body_once", "ordered", 2)],
)
def test_what_is_wrong_with_a_chord(carry_out: CarryOut, bug: str, check: str, other: str, seen: int) -> None:
    outcome = carry_out(of_a_chord(bug))
    judgement = outcome.of(check)
    assert (judgement.outcome, judgement.finding.seen) == ("violated", seen), outcome.story()
    assert outcome.of(other).outcome == "as_recorded", outcome.story()
    (body,) = outcome.ids("job.body")
    assert {event.task for event in judgement.finding.evidence} == {body}
