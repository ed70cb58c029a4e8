"""`result_state`: what the result backend says; and `completed` with the state REVOKED."""

from __future__ import annotations

from pytest_celery_chaos.checks.completed import completed, result_state

from .story import Story


def done() -> Story:
    return Story().worker("a").send("t1", "t2").works("a", "t1").works("a", "t2")


def test_the_state_that_is_expected_holds() -> None:
    finding = result_state(
        done().ends(results={"t1": "SUCCESS", "t2": "SUCCESS"}).history(), task="add", state="SUCCESS"
    )
    assert (finding.outcome, finding.seen) == ("holds", 0)


def test_another_state_violates() -> None:
    history = done().ends(results={"t1": "SUCCESS", "t2": "FAILURE"}).history()
    finding = result_state(history, task="add", state="SUCCESS")
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "t2 is FAILURE" in finding.why
    assert "stored: SUCCESS" in finding.why


def test_no_result_is_pending() -> None:
    history = done().ends(results={}).history()
    assert result_state(history, task="add", state="SUCCESS").seen == 2
    assert result_state(history, task="add", state="PENDING").outcome == "holds"


def test_an_earlier_look_may_be_meant() -> None:
    story = done().harness("snapshot", name="early", queues={}, unacked={}, results={"t1": "STARTED", "t2": "SUCCESS"})
    history = story.ends(results={"t1": "SUCCESS", "t2": "SUCCESS"}).history()
    assert result_state(history, task="add", state="SUCCESS", look="early").seen == 1
    assert result_state(history, task="add", state="SUCCESS").outcome == "holds"


def test_nobody_looked_or_nothing_was_sent() -> None:
    assert result_state(done().history(), task="add", state="SUCCESS").outcome == "inconclusive"
    assert result_state(done().ends().history(), task="other", state="SUCCESS").outcome == "inconclusive"


def test_a_task_that_is_discarded_is_completed_as_revoked() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").revoke("t1", heard_by=["a"]).discards("a", "t1").ends()
    assert completed(story.history(), task="add", state="REVOKED").outcome == "holds"
    assert completed(story.history(), task="add", state="any").outcome == "holds"
    assert completed(story.history(), task="add").seen == 1
    assert completed(done().ends().history(), task="add", state="REVOKED").seen == 2
