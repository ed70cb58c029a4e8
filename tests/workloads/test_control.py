"""Remote control: commands to all workers or to some, their replies in the history, and revokes by id and by stamp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from planted.plans import Outcome, plan, step, worker

from pytest_celery_chaos.engine.plan import Expectation, Moment, Plan

CarryOut = Callable[[Plan], Outcome]
JOB = step("send", task="count", name="job")
#: Held for its time, a message must not come back meanwhile.
LONG = {"broker_transport_options": {"visibility_timeout": 60}}


def replies(outcome: Outcome) -> list[dict[str, str]]:
    return [dict(event.attrs["replies"]) for event in outcome.history.of("control", "ok") if "replies" in event.attrs]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_every_worker_answers_or_the_one_that_is_asked(carry_out: CarryOut, pool: str) -> None:
    steps = [
        step("control", command="ping"),
        step("control", command="ping", workers=["b"]),
        step("control", command="rate_limit", args={"task_name": "count", "rate_limit": "100/s"}),
        step("control", command="no_such_command", workers=["a"]),
        JOB,
    ]
    outcome = carry_out(plan("ping", [worker("a", pool=pool), worker("b", pool=pool)], steps))
    assert outcome.verdict.value == "holds", outcome.story()
    everybody, one, limited, unknown = replies(outcome)
    assert everybody == dict.fromkeys(("a@chaos", "b@chaos"), "{'ok': 'pong'}")
    assert one == {"b@chaos": "{'ok': 'pong'}"}
    assert all("new rate limit" in reply for reply in limited.values())
    assert set(limited) == {"a@chaos", "b@chaos"}
    assert "error" in unknown.get("a@chaos", "error")  # an unknown command is not answered by every version


def test_a_worker_that_does_not_answer_is_waited_for_no_longer_than_said(carry_out: CarryOut) -> None:
    steps = [
        step("pause", worker="b", name="frozen"),
        step("control", command="ping", timeout=1.0),
        step("heal", what="frozen"),
        JOB,
    ]
    outcome = carry_out(plan("one is silent", [worker("a"), worker("b")], steps))
    assert outcome.verdict.value == "holds", outcome.story()
    assert [set(each) for each in replies(outcome)] == [{"a@chaos"}]
    (begun,), (done,) = outcome.history.of("control", "invoke"), outcome.history.of("control", "ok")
    assert done.t - begun.t < 5e9


def test_a_consumer_is_added_and_what_workers_do_is_told(carry_out: CarryOut) -> None:
    steps = [
        step("control", command="add_consumer", args={"queue": "extra"}),
        step("hold", name="busy", when=Moment(before="store", task="job")),
        step("send", task="count", queue="extra", name="job"),
        step("wait", at="held", task="job"),
        step("control", command="active"),
        step("control", command="stats", workers=["a"]),
        step("heal", what="busy"),
    ]
    outcome = carry_out(plan("add consumer", [worker()], steps, Expectation("completed", {"task": "job"}), config=LONG))
    assert outcome.verdict.value == "holds", outcome.story()
    added, active, stats = (each["a@chaos"] for each in replies(outcome))
    assert "add consumer extra" in added
    (job,) = outcome.ids("job")
    assert job in active
    assert "prefetch_count" in stats or len(stats) == 2000, "cut, not left out"


def test_what_is_stamped_is_revoked_by_its_stamp(carry_out: CarryOut) -> None:
    steps = [
        # In a queue that the worker takes nothing from before it knows of the revoke.
        step("send", task="count", queue="later", stamps={"customer": "acme"}, name="job"),
        step("send", task="count", queue="later", stamps={"customer": ["other"]}, name="other"),
        step("revoke", stamps={"customer": "acme"}),
        step("wait", at="revoke", worker="a"),
        step("control", command="add_consumer", args={"queue": "later"}),
    ]
    checks = [Expectation("executions", {"task": task, "exactly": runs}) for task, runs in (("job", 0), ("other", 1))]
    outcome = carry_out(plan("stamps", [worker()], steps, *checks, config=LONG))
    assert outcome.verdict.value == "holds", outcome.story()
    assert [event.attrs["reason"] for event in outcome.history.of("revoked", task="job")] == ["revoked"]


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_task_that_runs_is_terminated_by_a_signal(carry_out: CarryOut, signal: str) -> None:
    steps = [
        step("send", task="sleep", args=[30.0], name="job"),
        step("wait", at="started", task="job"),
        step("revoke", task="job", terminate=True, signal=signal),
    ]
    outcome = carry_out(
        plan("terminate", [worker()], steps, Expectation("completed", {"task": "job", "state": "REVOKED"}))
    )
    assert outcome.verdict.value == "holds", outcome.story()


@pytest.mark.parametrize(("args", "why"), [({}, "exactly one"), ({"task": "job", "stamps": {"a": "b"}}, "exactly one")])
def test_a_revoke_is_by_id_or_by_stamp(carry_out: CarryOut, args: dict[str, Any], why: str) -> None:
    outcome = carry_out(plan("both", [worker()], [JOB, step("revoke", **args)]))
    assert outcome.verdict.value == "inconclusive"
    assert why in outcome.verdict.why
