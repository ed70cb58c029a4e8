"""The checks that judge every run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_celery_chaos.checks.sanity import clean_end, exercised, no_critical, workers_alive
from pytest_celery_chaos.history.log import History

from .story import Story, clean


def test_workers_that_were_asked_to_end_may() -> None:
    assert workers_alive(clean().dies("a").ends().history()).outcome == "holds"


def test_no_worker_was_ready_is_inconclusive() -> None:
    assert workers_alive(Story().ends().history()).outcome == "inconclusive"
    assert workers_alive(Story().worker("a", ready=False).ends().history()).outcome == "inconclusive"


@pytest.mark.parametrize("how", [{"code": 1, "signal": None}, {"code": 0, "signal": None}, {"signal": "SIGSEGV"}])
def test_a_worker_that_ended_unasked_violates(how: dict[str, object]) -> None:
    finding = workers_alive(clean().dies("a", asked=False, **how).ends().history())  # type: ignore[arg-type]
    assert (finding.outcome, finding.seen) == ("violated", 1)


@pytest.mark.parametrize(("source", "ready"), [("beat:b", True), ("client:web", False)])
def test_a_beat_or_client_that_ended_unasked_violates(source: str, ready: bool) -> None:
    story = clean()
    story._pids[source] = 77
    story.event(source, "hello", role="main")
    if ready:
        story.event(source, "ticking", entries={})
    story.event(source, "offline", by="harness", code=1, signal=None, ended=77, asked=False)
    finding = workers_alive(story.ends().history())
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert finding.why.startswith(f"1 {source.partition(':')[0]} ended unasked: {source}")


def test_a_beat_that_never_ticked_is_inconclusive() -> None:
    story = clean()
    story._pids["beat:b"] = 77
    story.event("beat:b", "hello", role="main")
    assert "beat:b was never ready" in exercised(story.ends().history()).why
    story.event("beat:b", "offline", by="harness", code=1, signal=None, ended=77, asked=False)
    assert workers_alive(story.ends().history()).outcome == "inconclusive"


def test_a_log_without_critical_lines() -> None:
    assert no_critical(clean().ends().history()).outcome == "holds"


def test_without_a_worker_there_is_no_log() -> None:
    assert no_critical(Story().ends().history()).outcome == "inconclusive"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_critical_lines_violate(count: int) -> None:
    story = clean()
    for _ in range(count):
        story.event("worker:a", "critical", by="harness", line="Unrecoverable error: ResponseError")
    finding = no_critical(story.ends().history())
    assert (finding.outcome, finding.seen) == ("violated", count)
    assert "Unrecoverable" in finding.why


def test_a_critical_line_of_an_unanswered_ack_is_explained_where_that_is_known() -> None:
    def told(*, tag: str, phase: str, worker: str = "worker:a") -> History:
        story = clean().worker("b")
        story.event("worker:a", "ack", "invoke", task="t1", tag="tag-1")
        story.event("worker:a", "ack", phase, task="t1", tag="tag-1")
        story.event(worker, "critical", line=f"Couldn't ack '{tag}', reason:ConnectionError")
        return story.ends().history()

    cut = told(tag="tag-1", phase="unknown")
    assert no_critical(cut, known=["KF-91"]).outcome == "holds"
    assert no_critical(cut).seen == 1, "unless asked for, nothing explains it"
    for other in (told(tag="tag-2", phase="unknown"), told(tag="tag-1", phase="ok")):
        assert (no_critical(other, known=["KF-91"]).outcome, no_critical(other, known=["KF-91"]).seen) == (
            "violated",
            1,
        )
    elsewhere = told(tag="tag-1", phase="unknown", worker="worker:b")
    assert no_critical(elsewhere, known=["KF-91"]).outcome == "violated"


@pytest.mark.parametrize(
    ("pool", "handler", "line", "outcome"),
    [
        ("threads", "worker_Cold", "NotImplementedError: no kill_job", "holds"),
        ("threads", "worker_Warm", "NotImplementedError: no kill_job", "violated"),
        ("prefork", "worker_Cold", "NotImplementedError: no kill_job", "violated"),
        ("threads", "worker_Cold", "Unrecoverable error: ResponseError", "violated"),
    ],
)
def test_a_critical_line_of_a_cold_shutdown_is_explained_on_threads(
    pool: str, handler: str, line: str, outcome: str
) -> None:
    story = clean()
    story.event("worker:a", "ready", pool=pool)
    story.event("worker:a", "signal", signal="SIGQUIT", handler=handler)
    story.event("worker:a", "critical", line=line)
    history = story.ends().history()
    assert no_critical(history, known=["C2"]).outcome == outcome
    assert no_critical(history, known=["KF-91"]).outcome == "violated"


def test_nothing_is_left() -> None:
    assert clean_end(clean().ends().history()).outcome == "holds"


def test_nobody_looked_is_inconclusive() -> None:
    assert clean_end(clean().harness("end").history()).outcome == "inconclusive"
    assert clean_end(clean().looks().send("t3").harness("end").history()).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("left", "count"),
    [
        ({"queues": {"celery": ["t8", "t9"]}}, 2),
        ({"unacked": ["t9"]}, 1),
        ({"unacked": ["t9"], "index": []}, 1),
        ({"index": ["t9"]}, 1),
        ({"mutex": True}, 1),
        ({"queues": {"celery": ["t8"]}, "unacked": ["t9"], "mutex": True}, 3),
    ],
)
def test_what_is_left_is_counted_and_named(left: dict[str, object], count: int) -> None:
    finding = clean_end(clean().ends(**left).history())
    assert (finding.outcome, finding.seen) == ("violated", count)


def test_a_run_that_tested_something() -> None:
    finding = exercised(clean().ends().history())
    assert (finding.outcome, finding.seen) == ("holds", 1)


DOUBTS: dict[str, Callable[[Story], object]] = {
    "never reached": lambda s: s.harness("missed", verb="kill", moment="before run of job"),
    "never fired": lambda s: s.harness("armed", rule=7, verb="kill", moment="before run of job", index=9),
    "longer than the deadline": lambda s: s.event("worker:a", "released", rules=[1], how="deadline", held=1),
    "fault kill failed": lambda s: s.harness("fault", "fail", verb="kill", index=9, error="no such process"),
    "step get failed": lambda s: s.harness("step", "fail", verb="get", index=9, error="timeout"),
    "heal pause failed": lambda s: s.harness("heal", "fail", verb="pause", index=9, error="gone"),
    "begun and never done": lambda s: s.fault("kill", then="later", worker="a"),
    "worker:b was never ready": lambda s: s.worker("b", ready=False),
    "could not do its work": lambda s: s.event("worker:a", "hook_missing", hook="QoS.ack"),
    "the harness failed": lambda s: s.harness("error", error="WaitExpired: quiet", where="x"),
    "never said hello": lambda s: s.event("worker:ghost", "popped", None, "t1", pid=77),
    "no quiet": lambda s: s.harness("quiet", "fail", seconds=60, last="open: t1"),
}


@pytest.mark.parametrize("reason", DOUBTS)
def test_what_was_not_exercised_makes_a_run_inconclusive(reason: str) -> None:
    story = clean()
    DOUBTS[reason](story)
    finding = exercised(story.ends().history())
    assert finding.outcome == "inconclusive"
    assert reason in finding.why


def test_what_was_armed_and_held_was_exercised() -> None:
    story = clean().harness("armed", rule=7, moment="before run", index=9).harness("held", None, "t1", rules=[7])
    assert exercised(story.ends().history()).outcome == "holds"


def test_a_step_armed_at_an_event_of_the_harness_is_not_held_but_done() -> None:
    story = clean().harness("armed", rule=7, moment="at offline", index=2).fault("start", worker="a")
    assert exercised(story.ends().history()).outcome == "holds"


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (Story().worker("a").ends(), "nothing was published"),
        (Story().worker("a").send("t1").ends(), "no task reached any worker"),
        (Story().send("t1").ends(), "no worker was ever ready"),
        (clean().looks().harness("end"), "neither fell quiet nor was observed"),
        (clean().looks().harness("quiet", "ok"), "interrupted"),
    ],
)
def test_a_run_in_which_nothing_happened_is_inconclusive(story: Story, reason: str) -> None:
    finding = exercised(story.history())
    assert finding.outcome == "inconclusive"
    assert reason in finding.why
