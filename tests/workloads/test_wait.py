"""Waiting for a worker that waits for messages: it has handed on all that it was given, or it does not run."""

from __future__ import annotations

from collections.abc import Callable

from planted.plans import Outcome, plan, step, worker

from pytest_celery_chaos.engine.plan import Plan

CarryOut = Callable[[Plan], Outcome]


def test_a_worker_polls_once_it_may_take_more(carry_out: CarryOut) -> None:
    """A solo worker does nothing else while a task runs: it polls when that has ended."""
    steps = [
        step("send", task="sleep", kwargs={"seconds": 1}, name="job"),
        step("wait", at="started", task="job"),
        step("wait", polling="a"),
        step("snapshot", name="then"),
    ]
    outcome = carry_out(plan("polls", [worker("a", pool="solo")], steps))
    assert outcome.verdict.value == "holds", outcome.story()
    polled = [event for event in outcome.history.of("step", "ok") if event.attrs["verb"] == "wait"][-1]
    (returned,) = outcome.history.of("returned")
    assert returned.t < polled.t


def test_one_that_is_busy_does_not_and_one_that_is_gone_is_an_error(carry_out: CarryOut) -> None:
    cut = [step("kill", worker="a", for_good=True), step("wait", at="offline", worker="a"), step("wait", polling="a")]
    outcome = carry_out(plan("gone", [worker("a")], cut))
    assert outcome.verdict.value == "inconclusive"
    assert "worker 'a' is not running" in outcome.story()
    busy = [
        step("send", task="sleep", kwargs={"seconds": 5}, name="job"),
        step("wait", at="started", task="job"),
        step("wait", polling="a", timeout=0.5),
    ]
    outcome = carry_out(plan("busy", [worker("a", pool="solo")], busy))
    assert outcome.verdict.value == "inconclusive"
    assert "worker a to wait for messages (BRPOP): nothing after 0.5 s" in outcome.story()
