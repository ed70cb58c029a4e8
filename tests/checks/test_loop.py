"""`loop`."""

from __future__ import annotations

from pytest_celery_chaos.checks.loop import loop

from .story import Story


def rounds(times: int, *, every: float = 3) -> Story:
    story = Story().worker("a").send("t1", "t2").works("a", "t2")
    for number in range(times):
        story.at(1 + number * every).takes("a", "t1", redelivered=number > 0).starts("a", "t1").restores("a", "t1")
    return story


def test_one_redelivery_is_no_loop() -> None:
    finding = loop(rounds(2).acks("a", "t1").ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("holds", 2)


def test_more_of_them_are_and_it_still_goes_on() -> None:
    finding = loop(rounds(4).ends(unacked=["t1"]).history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 4)
    assert "t1 received 4 times, every 3.000 to 3.000 s; and it still went on" in finding.why
    assert [event.kind for event in finding.evidence] == ["received"] * 4


def test_a_loop_that_ended() -> None:
    finding = loop(rounds(3).acks("a", "t1").ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 3)
    assert "it ended: ack ok" in finding.why


def test_executions_are_counted_where_asked_for() -> None:
    finding = loop(rounds(2).acks("a", "t1").ends().history(), task="add", of="executions", max=1)
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "started twice" in finding.why


def test_a_message_rejected_with_requeue_goes_on() -> None:
    story = Story().worker("a").send("t1")
    for _ in range(5):
        story.takes("a", "t1").event("worker:a", "reject", "ok", "t1", tag="tag-t1", requeue=True)
    assert "still went on" in loop(story.ends().history(), task="t1").why


def test_a_retry_is_a_message_of_its_own() -> None:
    story = Story().worker("a")
    for number in range(5):
        story.send("t1").takes("a", "t1", tag=f"tag{number}")
        story.event("worker:a", "ack", "ok", "t1", tag=f"tag{number}")
    assert loop(story.ends().history(), task="add").outcome == "holds"


def test_what_shows_nothing_is_inconclusive() -> None:
    assert loop(Story().worker("a").ends().history(), task="add").outcome == "inconclusive"
    assert loop(Story().worker("a").send("t1").ends().history(), task="add").outcome == "inconclusive"
    finding = loop(rounds(1).ends(unacked=["t1"]).history(), task="add")
    assert finding.outcome == "inconclusive"
    assert "could still have come round" in finding.why
