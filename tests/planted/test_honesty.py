"""What was not put to the test is inconclusive: faults that never fire, moments that never come, a worker that is never
ready, a system that never falls quiet, settings that have no effect."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pytest_celery_chaos.engine import ready
from pytest_celery_chaos.engine.plan import Expectation, Hazard, Moment, Plan
from pytest_celery_chaos.engine.run import Run

from .plans import Outcome, plan, step, worker

CarryOut = Callable[[Plan], Outcome]
JOB = step("send", task="count", name="job")


def inconclusive(outcome: Outcome, because: str) -> None:
    """The run proves nothing, fails, and says why; the processes are gone all the same."""
    assert outcome.verdict.value == "inconclusive", outcome.story()
    assert outcome.verdict.exit_code == 6
    assert not outcome.verdict.as_recorded
    assert because in outcome.verdict.why, outcome.story()
    assert not any(each.alive for each in outcome.run.environment.workers.values())
    assert not any(each.alive for each in outcome.run.environment.servers.all.values())


def test_a_fault_that_never_fires(carry_out: CarryOut) -> None:
    never = step("kill", worker="a", when=Moment(before="reject", task="job"))
    outcome = carry_out(plan("never fires", [worker()], [never, JOB], Expectation("completed", {"task": "job"})))
    inconclusive(outcome, "never reached: kill before reject of job")
    assert outcome.of("completed").outcome == "as_recorded", "it did complete, and that is beside the point"


def test_a_hazard_of_a_fault_that_never_fires_is_not_taken_for_fixed(carry_out: CarryOut) -> None:
    never = step("kill", worker="a", when=Moment(before="reject", task="job"))
    hazard = Hazard(seen=1, ref="#1", why="lost between pop and record")
    outcome = carry_out(plan("never fires", [worker()], [never, JOB], Expectation("lost", {"task": "job"}, [hazard])))
    inconclusive(outcome, "never reached")


def test_a_moment_that_is_waited_for_and_never_comes(carry_out: CarryOut) -> None:
    waits = step("wait", at="retried", task="job", timeout=0.5)
    outcome = carry_out(plan("never comes", [worker()], [JOB, waits], Expectation("completed", {"task": "job"})))
    inconclusive(outcome, "at retried of job: nothing after 0.5 s")


def test_a_fault_that_fails(carry_out: CarryOut) -> None:
    twice = [step("kill", worker="a"), step("kill", worker="a")]
    outcome = carry_out(plan("fails", [worker()], [JOB, step("wait", at="settled", task="job"), *twice]))
    inconclusive(outcome, "worker 'a' is not running")


def test_a_process_that_is_held_longer_than_its_deadline(carry_out: CarryOut) -> None:
    hold = step("hold", when=Moment(before="run", task="job", timeout=0.5))
    waits = step("wait", at="settled", task="job")
    outcome = carry_out(plan("held too long", [worker()], [hold, JOB, waits]))
    inconclusive(outcome, "worker:a was held longer than the deadline")


def test_a_worker_that_ends_before_it_is_ready(carry_out: CarryOut) -> None:
    outcome = carry_out(plan("not ready", [worker(bug="there_is_no_such_module")], [JOB]))
    inconclusive(outcome, "the worker ended before it was ready")
    assert "there_is_no_such_module" in next(e for e in outcome.history.of("error")).attrs["error"]


def test_a_worker_that_is_never_ready(carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "START_TIMEOUT", 3.0)
    outcome = carry_out(plan("never ready", [worker(bug="never_ready")], [JOB]))
    inconclusive(outcome, "worker a to be ready: nothing after 3 s")


def test_a_deadline_without_quiet(carry_out: CarryOut) -> None:
    endless = step("send", task="sleep", args=[60.0], name="job")
    outcome = carry_out(plan("no quiet", [worker()], [endless], quiet=1.0))
    inconclusive(outcome, "no quiet after 1.0 s; last: open: ")
    (job,) = outcome.ids("job")
    assert job in outcome.verdict.why


def test_a_setting_that_the_command_line_overrides(carry_out: CarryOut) -> None:
    outcome = carry_out(plan("no effect", [worker()], [JOB], config={"worker_concurrency": 3}))
    inconclusive(outcome, "not in force: worker_concurrency")


def test_nothing_was_published(carry_out: CarryOut) -> None:
    outcome = carry_out(plan("idle", [worker()], []))
    inconclusive(outcome, "nothing was published")


def test_a_check_of_a_task_that_is_not_there(carry_out: CarryOut) -> None:
    outcome = carry_out(plan("misnamed", [worker()], [JOB], Expectation("executions", {"task": "jbo", "max": 1})))
    inconclusive(outcome, "nothing called 'jbo' was published")


def test_a_publish_that_no_worker_takes(carry_out: CarryOut) -> None:
    elsewhere = step("send", task="count", name="job", queue="nobody")
    outcome = carry_out(plan("nobody's queue", [worker()], [elsewhere], quiet=1.0))
    assert outcome.verdict.value != "holds", outcome.story()
    assert outcome.of("clean_end").outcome == "violated", outcome.story()
    assert outcome.of("exercised").outcome == "inconclusive", outcome.story()


def test_a_hold_that_nobody_heals_ends_with_the_steps(carry_out: CarryOut) -> None:
    """And what else is armed at its moment is done while it lasts."""
    hold = step("hold", when=Moment(before="run", task="job"))
    look = step("snapshot", name="held", when=Moment(before="run", task="job"))
    outcome = carry_out(
        plan("held and healed", [worker()], [hold, look, JOB], Expectation("completed", {"task": "job"}))
    )
    assert outcome.verdict.value == "holds", outcome.story()
    (looked,) = [event for event in outcome.history.of("snapshot") if event.attrs["name"] == "held"]
    (released,) = outcome.history.of("released")
    assert looked.t < released.t
    assert len(looked.attrs["unacked"]) == 1
    assert released.attrs["held"] < 10e9, "not until its deadline of 30 s"


def test_a_fault_is_healed_that_is_still_being_applied(carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_holding = Run.keep_holding

    def slowly(self: Run) -> Callable[[], None]:
        threading.Event().wait(0.5)
        return keep_holding(self)

    monkeypatch.setattr(Run, "keep_holding", slowly)
    hold = step("hold", name="held", when=Moment(before="run", task="job"))
    steps = [hold, JOB, step("wait", at="held", task="job"), step("heal", what="held")]
    outcome = carry_out(plan("still being applied", [worker()], steps, Expectation("completed", {"task": "job"})))
    assert outcome.verdict.value == "holds", outcome.story()
