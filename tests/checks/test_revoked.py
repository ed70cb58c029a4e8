"""`never_started`: revoked tasks stay revoked."""

from __future__ import annotations

from pytest_celery_chaos.checks.revoked import never_started

from .story import Story


def revoked() -> Story:
    return Story().worker("a").send("t1").takes("a", "t1").revoke("t1", heard_by=["a"])


def test_a_revoked_task_that_is_discarded_holds() -> None:
    finding = never_started(revoked().discards("a", "t1").acks("a", "t1").ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("holds", 0)


def test_a_task_that_was_never_revoked_is_inconclusive() -> None:
    story = Story().worker("a").send("t1").ends(queues={"celery": ["t1"]})
    assert never_started(story.history(), task="add").outcome == "inconclusive"
    assert never_started(story.history(), task="other").outcome == "inconclusive"


def test_a_revoked_task_that_still_waits_was_not_put_to_the_test() -> None:
    assert never_started(revoked().ends(unacked=["t1"]).history(), task="add").outcome == "inconclusive"


def test_a_task_that_expired_was_not_discarded_for_its_revoke() -> None:
    story = revoked().discards("a", "t1", "expired").ends()
    assert never_started(story.history(), task="add").outcome == "inconclusive"


def test_a_revoked_task_that_starts_violates() -> None:
    finding = never_started(revoked().starts("a", "t1").ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert [e.kind for e in finding.evidence] == ["revoke", "started"]


def test_a_worker_that_forgot_over_its_restart_violates() -> None:
    story = (
        revoked().dies("a").worker("a").takes("a", "t1", redelivered=True).starts("a", "t1").starts("a", "t1").ends()
    )
    assert never_started(story.history(), task="add").seen == 2


def test_a_revoke_that_nobody_heard_counts_from_when_it_was_sent() -> None:
    story = Story().send("t1").revoke("t1").worker("a").takes("a", "t1").starts("a", "t1").ends()
    assert never_started(story.history(), task="add").seen == 1


def test_a_task_discarded_by_one_worker_and_run_by_another_violates() -> None:
    story = revoked().worker("b").discards("a", "t1").takes("b", "t1", redelivered=True).starts("b", "t1").ends()
    assert never_started(story.history(), task="add").seen == 1


def test_a_start_while_the_revoke_still_spreads_is_none_of_its_business() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("b", "t1").revoke("t1", heard_by=["a"])
    story.starts("b", "t1").event("worker:b", "revoke", "ok", ids=["t1"]).ends()
    assert never_started(story.history(), task="add").outcome == "inconclusive"


def test_a_task_that_had_started_and_is_discarded_when_it_comes_back_holds() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").starts("a", "t1")
    story.revoke("t1", heard_by=["a", "b"]).kill("a").takes("b", "t1", redelivered=True).discards("b", "t1").ends()
    assert never_started(story.history(), task="add").outcome == "holds"
