"""`revoked_known`: a worker that starts knows what was revoked; and what `never_started` says of one that did not."""

from __future__ import annotations

from typing import Any

from pytest_celery_chaos.checks.revoked import never_started, revoked_known

from .story import Story


def revoked(**state: Any) -> Story:
    """A worker has heard of a revoke, and has gone."""
    story = Story().worker("a", knows=()).send("t1").takes("a", "t1").revoke("t1", heard_by=["a"])
    if state:
        story.keeps("a", "revoked_saved", **state)
    return story.dies("a", signal=None, code=0)


def test_a_worker_that_knows_of_it_when_it_is_ready_holds() -> None:
    finding = revoked_known(revoked(ids=["t1"]).worker("a", knows=["t1"]).ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("holds", 0)


def test_one_that_forgot_violates() -> None:
    finding = revoked_known(revoked().worker("a", knows=()).ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert [e.kind for e in finding.evidence] == ["revoke", "ready"]
    assert "without any state of its own" in finding.why


def test_each_start_without_it_counts() -> None:
    story = revoked().worker("a", knows=["t2"]).dies("a").worker("a", knows=()).worker("b", knows=["t1"]).ends()
    assert revoked_known(story.history(), task="add").seen == 2
    assert revoked_known(story.history(), task="add", worker="b").outcome == "holds"


def test_a_revoke_that_nobody_heard_is_known_to_nobody_later() -> None:
    story = Story().send("t1").revoke("t1").worker("a", knows=()).ends()
    assert revoked_known(story.history(), task="add").seen == 1


def test_the_reason_is_told() -> None:
    unreadable = revoked(ids=["t1"]).begins("a").keeps("a", "revoked_loaded", error="ConnectionError: refused")
    why = revoked_known(unreadable.ready("a", knows=()).ends().history(), task="add").why
    assert "its state (redis) could not be read: ConnectionError: refused" in why

    killed = Story().worker("a", knows=()).send("t1").takes("a", "t1").revoke("t1", heard_by=["a"]).kill("a")
    killed.begins("a").keeps("a", "revoked_loaded", ids=[]).ready("a", knows=())
    why = revoked_known(killed.ends().history(), task="add").why
    assert "its state (redis) named 0 ids: it had ended with signal SIGKILL and saved nothing" in why

    unsaved = revoked(error="refused").begins("a").keeps("a", "revoked_loaded", ids=[]).ready("a", knows=())
    assert "it could not be saved, refused" in revoked_known(unsaved.ends().history(), task="add").why

    ran = unsaved.takes("a", "t1", redelivered=True).starts("a", "t1").ends()
    assert "; worker:a was ready at" in never_started(ran.history(), task="add").why


def test_nothing_to_judge_is_inconclusive() -> None:
    assert revoked_known(revoked().ends().history(), task="add").outcome == "inconclusive"
    assert revoked_known(revoked().ends().history(), task="other").outcome == "inconclusive"
    assert revoked_known(revoked().worker("a", knows=["t1"]).ends().history(), task="add", worker="b").seen is None
    never = Story().worker("a", knows=()).send("t1").works("a", "t1").dies("a").worker("a", knows=()).ends()
    assert revoked_known(never.history(), task="add").outcome == "inconclusive"


def test_a_worker_that_knows_of_more_than_it_names_is_inconclusive() -> None:
    story = revoked().worker("a", knows=["t2"], in_all=1000).ends()
    assert revoked_known(story.history(), task="add").outcome == "inconclusive"
    assert revoked_known(revoked().worker("a").ends().history(), task="add").outcome == "inconclusive"
