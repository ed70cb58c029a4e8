"""`redelivered`: back again, not before and not after the bound in force."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.redelivery import redelivered

from .story import VERSIONS, Story


def taken_and_killed(**settings: object) -> Story:
    """`a` takes t1 at about 1 s and is killed; `b` lives. Due after 2 s + 1 s, and 2 s of slack."""
    story = Story(**settings).worker("a").worker("b").send("t1").at(1).takes("a", "t1").starts("a", "t1")
    return story.kill("a", name="death")


def back_at(seconds: float, **settings: object) -> Story:
    story = taken_and_killed(**settings).at(seconds).restores("b", "t1")
    return story.works("b", "t1", redelivered=True)


def test_back_within_the_bound() -> None:
    finding = redelivered(back_at(3.5).ends().history(), task="add")
    assert finding.outcome == "holds"
    assert finding.seen == pytest.approx(2.5, abs=0.1)
    assert "visibility timeout 2 s + sweep 1 s of worker:b + 2 s" in finding.why
    assert "due by 6.0" in finding.why


def test_nothing_was_left_behind_is_inconclusive() -> None:
    story = Story().worker("a").send("t1").works("a", "t1").ends()
    assert redelivered(story.history(), task="add").outcome == "inconclusive"
    assert redelivered(story.history(), task="other").outcome == "inconclusive"


def test_never_back() -> None:
    finding = redelivered(taken_and_killed().at(20).ends(unacked=["t1"]).history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 0)
    assert "never again" in finding.why


def test_back_too_late() -> None:
    finding = redelivered(back_at(15).ends().history(), task="add")
    assert finding.outcome == "violated"
    assert "too late, due by 6.0" in finding.why


def test_back_too_early() -> None:
    finding = redelivered(back_at(2).ends().history(), task="add")
    assert finding.outcome == "violated"
    assert "too early, after 1." in finding.why


def test_back_without_the_flag() -> None:
    story = taken_and_killed().at(3.5).restores("b", "t1").works("b", "t1", redelivered=False)
    assert "not marked as redelivered" in redelivered(story.ends().history(), task="add").why


def test_a_worker_that_gives_back_may_do_so_at_once() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").restores("a", "t1", "shutdown")
    story.dies("a", signal=None, code=0).works("b", "t1", redelivered=True).ends()
    assert redelivered(story.history(), task="add").outcome == "holds"
    assert redelivered(story.history(), task="add", by="shutdown").outcome == "holds"
    assert redelivered(story.history(), task="add", by="visibility").outcome == "violated"


def test_back_for_another_reason_than_expected() -> None:
    assert redelivered(back_at(3.5).ends().history(), task="add", by="visibility").outcome == "holds"
    assert redelivered(back_at(3.5).ends().history(), task="add", by="reject").outcome == "violated"


def test_a_worker_that_starts_after_the_timeout_sweeps_at_once() -> None:
    story = Story().worker("a").send("t1").at(1).takes("a", "t1").kill("a").at(50).worker("b")
    late = story.at(55).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    finding = redelivered(late.history(), task="add")
    assert finding.outcome == "violated"
    assert "due by 52.0" in finding.why


def test_a_reconnect_sweeps_at_once() -> None:
    story = Story(visibility_timeout=2, unacked_restore_interval=100).worker("a").worker("b").send("t1")
    story.at(1).takes("a", "t1").kill("a").at(10).event("worker:b", "connection_back")
    story.at(30).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    assert "due by 12.0" in redelivered(story.history(), task="add").why


def test_the_bound_is_of_what_is_in_force_not_of_what_was_asked_for() -> None:
    # kombu before 5.7 sweeps every 100 s, whatever the options say.
    story = Story().worker("a").send("t1")
    old = {**VERSIONS, "kombu": "5.6.2"}
    story.event("worker:b", "hello", pid=900, role="worker", versions=old)
    story.event("worker:b", "ready", pid=900, pool="solo", versions=old, settings=story.settings)
    story.at(1).takes("a", "t1").kill("a").at(95)
    for phase in ("invoke", "ok"):
        story.event("worker:b", "restore", phase, "t1", pid=900, tag="tag-t1", reason="sweep")  # type: ignore[arg-type]
    story.event("worker:b", "received", None, "t1", pid=900, tag="tag-t1", redelivered=True)
    story.event("worker:b", "ack", "ok", "t1", pid=900, tag="tag-t1").ends()
    finding = redelivered(story.history(), task="add")
    assert finding.outcome == "holds"
    assert "sweep 100 s of worker:b" in finding.why


def test_a_long_task_comes_back_while_it_runs() -> None:
    story = Story().worker("a").worker("b").send("t1").at(1).takes("a", "t1").starts("a", "t1")
    story.at(3.2).restores("b", "t1").works("b", "t1", redelivered=True).at(8).succeeds("a", "t1").ends()
    assert redelivered(story.history(), task="add").outcome == "holds"


def test_a_long_task_that_does_not_come_back_violates() -> None:
    story = Story().worker("a").worker("b").send("t1").at(1).works("a", "t1").at(8)
    story.events = [e for e in story.events if e.kind != "ack"]
    assert redelivered(story.acks("a", "t1").ends().history(), task="add").outcome == "violated"


def test_nobody_lived_to_restore_it() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").kill("a").at(60).ends(unacked=["t1"])
    assert redelivered(story.history(), task="add").outcome == "inconclusive"


def test_a_run_that_ends_as_soon_as_it_came_back_is_in_time() -> None:
    finding = redelivered(back_at(3.5).ends().dies("b").history(), task="add")
    assert finding.outcome == "holds"
    assert "due by 6.0" in finding.why


def test_a_broker_that_ends_with_the_run_puts_nothing_off() -> None:
    story = back_at(3.5).ends().dies("b").event("broker:main", "offline", by="harness", asked=True)
    finding = redelivered(story.history(), task="add")
    assert finding.outcome == "holds"
    assert "visibility timeout 2 s + sweep 1 s of worker:b + 2 s" in finding.why


def test_the_run_was_over_before_it_was_due() -> None:
    finding = redelivered(taken_and_killed().at(4).ends(unacked=["t1"]).history(), task="add")
    assert finding.outcome == "inconclusive"
    assert "after the run's end" in finding.why


def test_restored_in_time_and_never_taken() -> None:
    story = taken_and_killed().at(3.5).restores("b", "t1").at(30).ends(queues={"celery": ["t1"]})
    assert redelivered(story.history(), task="add").outcome == "inconclusive"


def test_a_busy_solo_worker_sweeps_when_it_is_free_again() -> None:
    story = Story().worker("a").worker("b", pool="solo").send("t1", "t2").at(0.5).takes("b", "t2").starts("b", "t2")
    story.at(1).takes("a", "t1").kill("a").at(40).succeeds("b", "t2").acks("b", "t2")
    story.at(40.5).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    assert redelivered(story.history(), task="t1").outcome == "holds"


def test_the_lock_of_a_killed_sweeper_puts_it_off() -> None:
    story = Story().worker("a").worker("b").worker("c").send("t1").at(1).takes("a", "t1").kill("a")
    story.at(3.3).event("worker:b", "sweep", "invoke").kill("b")
    story.at(303).restores("c", "t1").works("c", "t1", redelivered=True).ends()
    finding = redelivered(story.history(), task="t1")
    assert finding.outcome == "holds"
    assert "due by 306." in finding.why


def test_a_sweeper_killed_while_it_was_held_behind_its_sweep_leaves_the_lock() -> None:
    def killed_behind_a_sweep(held: bool) -> Story:
        story = Story().worker("a").worker("b").worker("c").send("t1").at(1).takes("a", "t1").kill("a")
        story.at(2.5).event("worker:b", "sweep", "invoke").event("worker:b", "sweep", "ok")
        if held:
            story.harness("held", rules=[1], event="sweep", source_of="worker:b")
        return story.kill("b").at(303).restores("c", "t1").works("c", "t1", redelivered=True).ends()

    assert redelivered(killed_behind_a_sweep(held=True).history(), task="t1").outcome == "holds"
    assert redelivered(killed_behind_a_sweep(held=False).history(), task="t1").outcome == "violated"


def test_while_the_broker_is_away_nothing_is_due() -> None:
    story = taken_and_killed().at(2).fault("pause", broker="main")
    story.at(30).harness("heal", "ok", verb="pause", index=2)
    story.at(31).restores("b", "t1").works("b", "t1", redelivered=True).ends()
    assert redelivered(story.history(), task="t1").outcome == "holds"


def test_within_counts_from_the_end_of_the_worker_that_had_it() -> None:
    assert redelivered(back_at(3.5).ends().history(), task="add", within=3).outcome == "holds"
    finding = redelivered(back_at(3.5).ends().history(), task="add", within=2)
    assert finding.outcome == "violated"
    assert "not within 2 s" in finding.why


def test_how_often_it_came_back() -> None:
    story = back_at(3.5).ends()
    assert redelivered(story.history(), task="add", times=1).outcome == "holds"
    finding = redelivered(story.history(), task="add", times=0)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert redelivered(story.history(), task="add", times=2).outcome == "violated"


def test_that_it_did_not_come_back_is_known_once_it_is_acknowledged() -> None:
    story = Story().worker("a").send("t1").works("a", "t1").ends()
    assert redelivered(story.history(), task="add", times=0).outcome == "holds"
    assert redelivered(taken_and_killed().ends(unacked=["t1"]).history(), task="add", times=0).outcome == "inconclusive"


def test_a_retry_is_another_message_and_no_redelivery() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1")
    story.takes("a", "t1", tag="second").event("worker:a", "ack", "ok", "t1", tag="second").ends()
    assert redelivered(story.history(), task="add").outcome == "inconclusive"


SPACES = {"client:main": "main/0", "worker:a": "main/0", "worker:b": "main/0", "worker:other": "main/2"}


def test_a_worker_of_another_database_restores_nothing() -> None:
    story = Story(spaces=SPACES).worker("a").worker("other").send("t1").at(1).takes("a", "t1").kill("a")
    finding = redelivered(story.at(20).ends(unacked=["t1"]).history(), task="add")
    assert (finding.outcome, "no worker lived long enough" in finding.why) == ("inconclusive", True)


def test_a_worker_of_another_database_makes_nothing_due_sooner() -> None:
    story = Story(spaces=SPACES, visibility_timeout=30).worker("a").worker("b").worker("other", visibility_timeout=1)
    story.send("t1").at(1).takes("a", "t1").kill("a").at(5).restores("b", "t1").works("b", "t1", redelivered=True)
    finding = redelivered(story.ends().history(), task="add")
    assert finding.outcome == "violated"
    assert "of a visibility timeout of 30 s" in finding.why
    spaces = {**SPACES, "worker:other": "main/0"}
    story = Story(spaces=spaces, visibility_timeout=30).worker("a").worker("b").worker("other", visibility_timeout=1)
    story.send("t1").at(1).takes("a", "t1").kill("a").at(4).restores("other", "t1")
    assert redelivered(story.works("b", "t1", redelivered=True).ends().history(), task="add").outcome == "holds"
