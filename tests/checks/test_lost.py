"""`lost`: conservation of what the broker acknowledged."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.delivery import lost

from .story import Story, clean


def test_nothing_is_lost_when_every_task_ended() -> None:
    finding = lost(clean().ends().history())
    assert (finding.outcome, finding.seen) == ("holds", 0)


def test_nothing_published_is_inconclusive() -> None:
    assert lost(Story().worker("a").ends().history()).outcome == "inconclusive"


def test_an_early_acknowledged_task_whose_worker_was_killed_while_it_ran_is_lost() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1").kill("a").ends()
    finding = lost(story.history())
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert [e.kind for e in finding.evidence][-2:] == ["started", "offline"]
    assert "t1" in finding.why
    assert "then nothing" in finding.why


def test_a_message_popped_and_never_recorded_is_lost_with_its_worker() -> None:
    story = Story().worker("a").send("t1").event("worker:a", "popped", None, "t1", tag="x").kill("a").ends()
    assert lost(story.history()).seen == 1


@pytest.mark.parametrize(("noted", "outcome"), [(False, "violated"), (True, "holds")])
def test_a_message_popped_on_a_connection_that_is_lost_is_lost_though_its_worker_lives(
    noted: bool, outcome: str
) -> None:
    story = Story().worker("a").send("t1").event("worker:a", "popped", None, "t1", tag="tag-t1")
    if noted:
        story.event("worker:a", "received", None, "t1", tag="tag-t1")
    story.event("worker:a", "connection_lost", error="ConnectionError").ends()
    assert lost(story.history()).outcome == outcome


def test_a_message_that_no_worker_saw_and_no_queue_has_is_lost() -> None:
    story = Story().worker("a").send("t1", "t2").works("a", "t1").ends()
    assert lost(story.history()).seen == 1


def test_a_task_that_a_living_worker_swallowed_is_lost() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").at(20).ends()
    assert lost(story.history()).outcome == "violated"


def test_a_retry_that_was_not_published_again_is_lost() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1")
    story.event("worker:a", "retried", None, "t1", pid=story.child("a"), error="Retry").acks("a", "t1").kill("a").ends()
    assert lost(story.history()).seen == 1


def test_a_retried_id_continues() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1")
    story.event("worker:a", "publish", "invoke", "t1").event("worker:a", "publish", "ok", "t1", retries=1)
    story.event("worker:a", "retried", None, "t1", pid=story.child("a")).acks("a", "t1").works("a", "t1").ends()
    assert lost(story.history()).outcome == "holds"


@pytest.mark.parametrize("where", [{"queues": {"celery": ["t1"]}}, {"unacked": ["t1"]}])
def test_what_is_still_at_the_broker_is_not_lost(where: dict[str, object]) -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").kill("a").ends(**where)
    assert lost(story.history()).outcome == "holds"


def test_a_publish_that_was_cut_off_is_never_lost_and_recovered_where_it_arrived() -> None:
    story = Story().worker("a").send("t1").send("t2", "t3", outcome="unknown").works("a", "t1").works("a", "t2").ends()
    finding = lost(story.history())
    assert finding.outcome == "holds"
    assert "1 more recovered" in finding.why


@pytest.mark.parametrize("reason", ["revoked", "expired", "terminated"])
def test_a_discarded_task_is_not_lost(reason: str) -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").discards("a", "t1", reason).acks("a", "t1").ends()
    assert lost(story.history()).outcome == "holds"


def test_a_rejected_message_is_not_lost_but_a_requeued_one_that_vanished_is() -> None:
    def rejected(requeue: bool) -> Story:
        story = Story().worker("a").send("t1").takes("a", "t1")
        return story.event("worker:a", "reject", "ok", "t1", tag="tag-t1", requeue=requeue).kill("a").ends()

    assert lost(rejected(False).history()).outcome == "holds"
    assert lost(rejected(True).history()).seen == 1


def test_a_failure_that_goes_with_a_requeue_is_no_end() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1")
    story.event("worker:a", "failed", None, "t1", error="WorkerLostError")
    story.event("worker:a", "reject", "ok", "t1", tag="tag-t1", requeue=True).kill("a").ends()
    assert lost(story.history()).seen == 1


def test_a_child_that_was_killed_ends_its_task_in_failure() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1")
    story.event("worker:a", "child_down", child=story.child("a"), exitcode=-9)
    story.event("worker:a", "failed", None, "t1", error="WorkerLostError").ends()
    assert lost(story.history()).outcome == "holds"


def test_a_task_that_still_runs_on_a_living_worker_is_not_lost() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1").at(60).ends()
    assert lost(story.dies("a").history()).outcome == "holds", "the harness ends the worker when all is over"


@pytest.mark.parametrize(("observed", "outcome"), [(True, "holds"), (False, "violated")])
def test_what_a_worker_did_when_the_observation_was_over_is_not_lost(observed: bool, outcome: str) -> None:
    """What is healed then lets it go on, until the harness ends it; the keys are looked at when it has ended."""
    story = Story().worker("a").send("t1")
    if observed:
        story.harness("observed", seconds=10)
    story.takes("a", "t1").acks("a", "t1").starts("a", "t1").dies("a").looks()
    assert lost(story.history()).outcome == outcome


def test_a_task_whose_pool_process_is_gone_does_not_run_any_more() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1")
    story.event("worker:a", "child_down", child=story.child("a"), exitcode=-9).at(60).ends()
    assert lost(story.history()).seen == 1


def test_a_result_seen_in_the_backend_is_an_end() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1").returns("a", "t1")
    story.event("worker:a", "store", "invoke", "t1", pid=story.child("a"), state="SUCCESS").kill("a")
    assert lost(story.ends(results={"t1": "SUCCESS"}).history()).outcome == "holds"


def test_without_a_look_at_the_keys_nobody_knows() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").kill("a").harness("end")
    assert lost(story.history()).outcome == "inconclusive"


def test_a_look_that_is_older_than_the_message_proves_nothing() -> None:
    story = Story().worker("a").looks().send("t1").harness("end")
    assert lost(story.history()).outcome == "inconclusive"


def test_a_queue_that_nobody_looked_at_proves_nothing() -> None:
    story = Story().worker("a").send("t1", queue="elsewhere").ends()
    finding = lost(story.history())
    assert finding.outcome == "inconclusive"
    assert "'elsewhere'" in finding.why


def test_only_the_named_tasks_are_judged() -> None:
    story = Story().worker("a").send("t1", name="add").send("t2", name="mul").works("a", "t1").ends()
    assert lost(story.history(), task="add").outcome == "holds"
    assert lost(story.history(), task="mul").seen == 1
    assert lost(story.history(), task="div").outcome == "inconclusive"
