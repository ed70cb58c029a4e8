"""`unexpected` and `completed`."""

from __future__ import annotations

from pytest_celery_chaos.checks.completed import completed
from pytest_celery_chaos.checks.delivery import unexpected

from .story import Story, clean


def test_all_that_arrived_had_been_published() -> None:
    assert unexpected(clean().ends().history()).outcome == "holds"


def test_nothing_arrived_is_inconclusive() -> None:
    assert unexpected(Story().worker("a").send("t1").ends().history()).outcome == "inconclusive"


def test_a_message_that_nobody_published_is_unexpected() -> None:
    finding = unexpected(clean().works("a", "stranger").ends().history())
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "stranger" in finding.why


def test_a_message_that_arrives_before_it_is_published_is_unexpected() -> None:
    assert unexpected(Story().worker("a").works("a", "t1").send("t1").ends().history()).seen == 1


def test_a_start_without_a_receipt_counts_as_arrival() -> None:
    assert unexpected(clean().starts("a", "t9").starts("a", "t8").ends().history()).seen == 2


def test_a_publish_that_was_cut_off_may_arrive() -> None:
    story = Story().worker("a").send("t1", outcome="unknown").works("a", "t1").ends()
    assert unexpected(story.history()).outcome == "holds"


def test_completed_in_time() -> None:
    finding = completed(clean().ends().history(), task="add", within=1)
    assert (finding.outcome, finding.seen) == ("holds", 0)


def test_completed_judges_nothing_where_nothing_was_published() -> None:
    assert completed(clean().ends().history(), task="mul").outcome == "inconclusive"


def test_completed_judges_nothing_where_every_publish_failed() -> None:
    story = Story().worker("a").send("t1", outcome="fail").ends()
    assert completed(story.history(), task="t1").outcome == "inconclusive"


def test_a_task_that_never_ends_is_not_completed() -> None:
    story = clean().send("t3", "t4").takes("a", "t3").starts("a", "t3").ends(unacked=["t3"])
    finding = completed(story.history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "t3 (also t4) never did" in finding.why


def test_a_task_that_ends_late_is_not_completed_in_time() -> None:
    story = Story().worker("a").send("t1").at(5).works("a", "t1").ends()
    assert completed(story.history(), task="t1", within=3).seen == 1
    assert completed(story.history(), task="t1", within=6).outcome == "holds"


def test_a_failed_task_is_not_completed_in_success() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1").fails("a", "t1").acks("a", "t1").ends()
    assert completed(story.history(), task="t1").outcome == "violated"
    assert completed(story.history(), task="t1", state="FAILURE").outcome == "holds"
    assert completed(story.history(), task="t1", state="any").outcome == "holds"


def test_the_time_may_count_from_a_step() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").at(10).kill("a", name="death")
    story.at(12).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    assert completed(story.history(), task="t1", within=3, since="death").outcome == "holds"
    assert completed(story.history(), task="t1", within=1, since="death").outcome == "violated"
    assert completed(story.history(), task="t1", within=3).outcome == "violated"
    assert completed(story.history(), task="t1", within=3, since="never").outcome == "inconclusive"


def test_a_stored_result_is_an_end_though_its_process_was_killed_then() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1").returns("a", "t1")
    story.event("worker:a", "store", "ok", "t1", pid=story.child("a"), state="SUCCESS").kill("a")
    assert completed(story.ends(unacked=["t1"]).history(), task="t1").outcome == "holds"
