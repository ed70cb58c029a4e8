"""Options of `send` as real workers act on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planted.plans import Outcome, plan, step, worker

from pytest_celery_chaos.engine.plan import Expectation, Plan

CarryOut = Callable[[Plan], Outcome]
POOLS = ("prefork", "solo")


@pytest.mark.parametrize("pool", POOLS)
def test_the_smallest_priority_is_consumed_first(carry_out: CarryOut, pool: str) -> None:
    steps = [
        step("send", task="count", priority=9, times=2, name="last"),
        step("send", task="count", priority=3, times=2, name="middle"),
        step("send", task="count", priority=0, times=2, name="first"),
        step("start", worker="a"),
    ]
    order = Expectation("started_in_order", {"tasks": ["first", "middle", "last"]})
    outcome = carry_out(plan("priority", [worker(pool=pool, start=False)], steps, order))
    assert outcome.verdict.value == "holds", outcome.story()


def test_time_limits_end_a_task_and_its_process(carry_out: CarryOut) -> None:
    steps = [
        step("send", task="sleep", args=[20], soft_time_limit=0.5, name="soft"),
        step("send", task="sleep", args=[20], time_limit=0.5, name="hard"),
        step("wait", at="child_down"),
    ]
    checks = [Expectation("completed", {"task": task, "state": "FAILURE"}) for task in ("soft", "hard")]
    outcome = carry_out(plan("time limits", [worker()], steps, *checks))
    assert outcome.verdict.value == "holds", outcome.story()
    errors = {task: outcome.history.of("failed", task=task)[0].attrs["error"] for task in ("soft", "hard")}
    assert errors == {"soft": "SoftTimeLimitExceeded", "hard": "TimeLimitExceeded"}


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_has_expired_is_discarded(carry_out: CarryOut, pool: str) -> None:
    steps = [
        step("send", task="count", expires=0.1, name="late"),
        step("send", task="count", expires=60.0, name="fresh"),
        step("wait", after=0.3),
        step("start", worker="a"),
    ]
    checks = [Expectation("executions", {"task": task, "exactly": runs}) for task, runs in (("late", 0), ("fresh", 1))]
    outcome = carry_out(plan("expires", [worker(pool=pool, start=False)], steps, *checks))
    assert outcome.verdict.value == "holds", outcome.story()
    assert [event.attrs["reason"] for event in outcome.history.of("revoked", task="late")] == ["expired"]


def test_a_task_that_celery_retries_by_itself_with_back_off(carry_out: CarryOut) -> None:
    steps = [step("send", task="flaky", kwargs={"failures": 2}, name="job")]
    completed = Expectation("completed", {"task": "job"})
    # Held for its countdown, the message must not come back meanwhile.
    config = {"broker_transport_options": {"visibility_timeout": 60}}
    outcome = carry_out(plan("back-off", [worker()], steps, completed, config=config))
    assert outcome.verdict.value == "holds", outcome.story()
    assert [event.attrs["countdown"] for event in outcome.history.of("retried", task="job")] == [1, 2]
    first, second, third = (event.t for event in outcome.history.of("started", task="job"))
    assert second - first > 0.9e9
    assert third - second > 1.9e9


def test_a_topic_exchange_brings_messages_to_the_queues_whose_pattern_fits(carry_out: CarryOut) -> None:
    queues = {
        "orders": {"exchange": "events", "type": "topic", "routing_key": "order.#"},
        "mail": {"exchange": "events", "type": "topic", "routing_key": "*.mail"},
    }
    steps = [
        step("send", task="count", queue="orders", routing_key="order.new.today", name="order"),
        step("send", task="count", queue="orders", routing_key="daily.mail", name="letter"),
        step("send", task="count", queue="orders", routing_key="order.mail", name="both"),
    ]
    workers = [worker("a", queues=["orders"]), worker("b", queues=["mail"])]
    outcome = carry_out(plan("topic", workers, steps, queues=queues))
    assert outcome.verdict.value == "holds", outcome.story()
    ran = {name: {e.source for e in outcome.history.of("started", task=name)} for name in ("order", "letter", "both")}
    assert ran == {"order": {"worker:a"}, "letter": {"worker:b"}, "both": {"worker:a", "worker:b"}}


def test_a_rate_is_kept_to(carry_out: CarryOut) -> None:
    outcome = carry_out(plan("rate", [worker()], [step("send", task="count", times=11, rate=20, name="job")]))
    assert outcome.verdict.value == "holds", outcome.story()
    times = [event.t for event in outcome.history.of("publish", "invoke", task="job")]
    assert len(times) == 11
    (begun,) = outcome.history.of("step", "invoke")
    assert times[-1] - begun.t >= 0.5e9, "the eleventh is due half a second after the first"
