"""`requeued` and `exits`."""

from __future__ import annotations

from pytest_celery_chaos.checks.shutdown import exits, requeued

from .story import Story


def stopping(**fault: str) -> Story:
    return Story().worker("a").send("t1").takes("a", "t1").fault("stop", name="stop", worker="a", how="cold")


def test_what_the_worker_restored_is_back() -> None:
    story = stopping().restores("a", "t1", "shutdown").dies("a").ends(queues={"celery": ["t1"]})
    assert requeued(story.history(), task="add", worker="a").outcome == "holds"
    assert requeued(story.history(), task="add").outcome == "holds"


def test_what_lies_in_the_queue_is_back() -> None:
    story = stopping().dies("a").looks(queues={"celery": ["t1"]}).ends(queues={"celery": ["t1"]})
    assert requeued(story.history(), task="add", worker="a").outcome == "holds"


def test_what_another_worker_received_before_any_sweep_is_back() -> None:
    story = stopping().worker("b").dies("a").works("b", "t1", redelivered=True).ends()
    assert requeued(story.history(), task="add", worker="a").outcome == "holds"


def test_nothing_unfinished_is_inconclusive() -> None:
    story = Story().worker("a").send("t1").works("a", "t1").fault("stop", worker="a").dies("a").ends()
    assert requeued(story.history(), task="add", worker="a").outcome == "inconclusive"
    assert requeued(story.history(), task="other").outcome == "inconclusive"


def test_a_worker_that_the_harness_ended_after_all_was_over_did_not_go() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").ends(unacked=["t1"]).dies("a")
    assert requeued(story.history(), task="add").outcome == "inconclusive"


def test_what_is_left_in_unacked_is_not_back() -> None:
    finding = requeued(stopping().dies("a").ends(unacked=["t1"]).history(), task="add", worker="a")
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "left in unacked" in finding.why


def test_what_is_nowhere_is_not_back() -> None:
    finding = requeued(stopping().dies("a").ends().history(), task="add", worker="a")
    assert "neither in a queue nor in unacked" in finding.why


def test_what_was_acknowledged_unfinished_is_not_back() -> None:
    story = stopping().starts("a", "t1").acks("a", "t1").dies("a").ends()
    assert "acknowledged" in requeued(story.history(), task="add", worker="a").why


def test_what_was_failed_and_acknowledged_on_the_way_out_is_not_back() -> None:
    story = stopping().starts("a", "t1").fails("a", "t1", error="WorkerLostError").acks("a", "t1").dies("a").ends()
    assert requeued(story.history(), task="add", worker="a").outcome == "violated"


def test_what_only_a_sweep_brought_back_was_left_behind() -> None:
    story = stopping().worker("b").dies("a").at(9).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    assert "by a sweep" in requeued(story.history(), task="add", worker="a").why


def test_nobody_looked_afterwards() -> None:
    assert requeued(stopping().looks().dies("a").harness("end").history(), task="add").outcome == "inconclusive"


def gone_after(seconds: float, **how: object) -> Story:
    return stopping().at(seconds).dies("a", **how)  # type: ignore[arg-type]


def test_a_worker_that_goes_in_time() -> None:
    finding = exits(gone_after(2, signal=None, code=0).ends().history(), worker="a", within=3, code=0)
    assert finding.outcome == "holds"
    assert exits(gone_after(2).ends().history(), worker="a", within=3, since="stop", signal="KILL").outcome == "holds"


def test_a_worker_that_nobody_told_to_go_is_inconclusive() -> None:
    story = Story().worker("a").dies("a", asked=False).ends()
    assert exits(story.history(), worker="a", within=3).outcome == "inconclusive"
    assert exits(gone_after(2).ends().history(), worker="a", within=3, since="never").outcome == "inconclusive"


def test_a_worker_that_takes_too_long() -> None:
    finding = exits(gone_after(9).ends().history(), worker="a", within=3)
    assert finding.outcome == "violated"
    assert finding.seen is not None
    assert finding.seen > 8


def test_a_worker_with_the_wrong_code() -> None:
    finding = exits(gone_after(2, signal=None, code=1).ends().history(), worker="a", within=3, code=0)
    assert (finding.outcome, finding.seen) == ("violated", 1)


def test_a_worker_that_died_of_a_signal_instead() -> None:
    history = gone_after(2, signal="SIGKILL").ends().history()
    assert exits(history, worker="a", within=3, code=0).seen == -9
    assert exits(history, worker="a", within=3, signal="TERM").outcome == "violated"


def test_a_worker_that_never_went_until_the_harness_ended_it() -> None:
    finding = exits(stopping().at(30).ends().dies("a").history(), worker="a", within=3)
    assert finding.outcome == "violated"
    assert "still there" in finding.why


def test_a_run_that_was_over_too_soon_does_not_tell() -> None:
    assert exits(stopping().at(1).ends().dies("a").history(), worker="a", within=3).outcome == "inconclusive"
