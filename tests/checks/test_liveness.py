"""`consumes`, `reconnects` and `notices`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.liveness import consumes, notices, reconnects
from pytest_celery_chaos.history.verdict import Finding

from .story import Story


def broken(*workers: str) -> Story:
    """The broker went and came back at 2 s, under workers that wait for messages."""
    story = Story()
    for worker in workers or ("a",):
        story.worker(worker)
    return story.at(2).fault("restart", name="death", broker="main")


def judged(story: Story, **args: object) -> Finding:
    return consumes(story.history(), within=3, since="death", **args)  # type: ignore[arg-type]


def test_a_worker_that_takes_a_message_consumes() -> None:
    finding = judged(broken().send("t1").at(4).works("a", "t1").ends())
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert "2.0" in finding.why or "1.9" in finding.why


def test_late_is_a_worker_only_where_a_message_waited_for_it() -> None:
    assert judged(broken().at(8).send("t1").at(10).works("a", "t1").ends()).outcome == "holds"


def test_each_worker_is_judged() -> None:
    story = broken("a", "b").send("t1", "t2").at(3).works("a", "t1").works("b", "t2").ends()
    assert judged(story).outcome == "holds"


def test_a_message_that_waits_to_the_end_violates() -> None:
    finding = judged(broken().send("t1").at(9).ends(queues={"celery": ["t1"]}))
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "worker:a left t1 waiting" in finding.why
    assert "never took another message" in finding.why


def test_a_worker_that_takes_it_too_late_violates() -> None:
    finding = judged(broken().send("t1").at(9).works("a", "t1").ends())
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "its next message at 9.0" in finding.why


def test_the_one_of_two_that_leaves_its_message_waiting_violates() -> None:
    story = broken("a", "b").send("t1", "t2").at(3).works("a", "t1").at(9).works("a", "t2").ends()
    finding = judged(story)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "worker:b left t2 waiting" in finding.why


def test_a_message_that_came_back_waits_as_any_other() -> None:
    story = broken().worker("b").restores("b", "t1").dies("b").at(9)
    story.send("t1")  # its publish is told late
    story.events.sort(key=lambda event: event.t)
    finding = judged(story.at(20).ends(queues={"celery": ["t1"]}), worker="a")
    assert finding.outcome == "violated"


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (broken().at(9).ends(), "nothing was there for worker:a"),
        (broken("a", "b").send("t1").at(3).works("a", "t1").ends(), "nothing was there for worker:b"),
        (broken().dies("a").send("t1").ends(queues={"celery": ["t1"]}), "lived so long"),
        (broken().send("t1").at(9).ends(), "nothing was there"),
        (broken().send("t1", queue="other").at(9).ends(queues={"other": ["t1"]}), "nothing was there"),
        (Story().worker("a").send("t1").works("a", "t1").ends(), "step 'death'"),
    ],
)
def test_what_shows_nothing_is_inconclusive(story: Story, reason: str) -> None:
    finding = judged(story)
    assert finding.outcome == "inconclusive"
    assert reason in finding.why


def test_a_worker_that_may_hold_no_more_is_not_judged() -> None:
    story = Story().worker("a").event("worker:a", "prefetch", count=1).send("t0").takes("a", "t0")
    story.at(2).fault("restart", name="death", broker="main").send("t1").at(9)
    finding = judged(story.ends(queues={"celery": ["t1"]}, unacked=["t0"]))
    assert finding.outcome == "inconclusive"
    assert "held 1 messages of a limit of 1" in finding.why


def outage(*, back: float | None, online: float | None = None, lost: float = 2) -> Story:
    story = Story().worker("a").at(lost).event("worker:a", "connection_lost", error="ConnectionError: gone")
    story.at(lost + 0.5).event("worker:a", "connection_lost", error="ConnectionError: refused", before=True)
    if online is not None:
        story.at(online).event("broker:main", "online", by="harness", server="valkey", version="9.1.0")
    if back is not None:
        story.at(back).event("worker:a", "connection_back").event("worker:a", "consuming", address="127.0.0.1:5")
    return story


def test_a_worker_that_is_back_in_time() -> None:
    finding = reconnects(outage(back=4).ends().history(), within=3)
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert reconnects(outage(back=22, online=20).ends().history(), within=3).outcome == "holds"


def test_a_worker_that_is_back_too_late() -> None:
    finding = reconnects(outage(back=9).ends().history(), within=3)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "waited for messages again at 9.0" in finding.why


def test_a_worker_that_never_waits_for_messages_again() -> None:
    story = outage(back=None).at(3).event("worker:a", "connection_back").at(20).ends()
    finding = reconnects(story.history(), within=3)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "never waited for messages again" in finding.why


def test_each_outage_counts() -> None:
    story = outage(back=9).at(12).event("worker:a", "connection_lost", error="again").at(30).ends()
    assert reconnects(story.history(), within=3).seen == 2


def test_no_outage_proves_nothing() -> None:
    assert reconnects(Story().worker("a").ends().history(), within=3).outcome == "inconclusive"
    assert reconnects(outage(back=4).ends().history(), within=3, worker="b").outcome == "inconclusive"
    assert reconnects(outage(back=None).at(3).dies("a").ends().history(), within=3).outcome == "inconclusive"
    assert reconnects(outage(back=None).ends().history(), within=3).outcome == "inconclusive"


def silenced(*lost: float, workers: tuple[str, ...] = ("a",)) -> Story:
    """The broker is silent from 2 s on; the workers notice so many seconds after the start, in turn."""
    story = Story()
    for worker in workers:
        story.worker(worker)
    story.at(2).fault("pause", name="silent", broker="main")
    for worker, when in zip(workers, lost, strict=False):
        story.at(when).event(f"worker:{worker}", "connection_lost", error="TimeoutError: Timeout", before=False)
    return story.at(20)


def noticed(story: Story, **args: object) -> Finding:
    return notices(story.history(), since="silent", within=3, **args)  # type: ignore[arg-type]


def test_a_worker_that_gives_its_connection_up_notices() -> None:
    finding = noticed(silenced(4).ends())
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert "after 1.9" in finding.why or "after 2.0" in finding.why
    assert noticed(silenced(4, 4.5, workers=("a", "b")).ends()).outcome == "holds"


def test_a_worker_that_drops_one_connection_to_open_it_anew_notices() -> None:
    story = silenced().event("worker:a", "connection_dropped", type="pubsub")
    assert noticed(story.ends()).outcome == "violated"
    story = Story().worker("a").at(2).fault("pause", name="silent", broker="main")
    assert noticed(story.at(4).event("worker:a", "connection_dropped", type="pubsub").at(20).ends()).outcome == "holds"


def test_a_worker_that_does_not_notice_or_too_late_violates() -> None:
    finding = noticed(silenced().ends())
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "worker:a never noticed" in finding.why
    assert "noticed at 9.0" in noticed(silenced(9).ends()).why
    assert noticed(silenced(4, workers=("a", "b")).ends()).seen == 1
    assert noticed(silenced(4, workers=("a", "b")).ends(), worker="a").outcome == "holds"


def test_a_loss_of_before_is_none_of_this_silence() -> None:
    story = Story().worker("a").at(1).event("worker:a", "connection_lost", error="gone", before=False)
    story.at(2).fault("pause", name="silent", broker="main").at(20)
    assert noticed(story.ends()).outcome == "violated"


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (Story().worker("a").at(20).ends(), "step 'silent'"),
        (silenced().worker("b").ends(), "no worker was there"),
        (Story().worker("a").at(2).fault("pause", name="silent", broker="main").ends(), "was over before"),
    ],
)
def test_a_silence_that_nobody_could_notice(story: Story, reason: str) -> None:
    finding = noticed(story, worker="b" if "there" in reason else None)
    assert finding.outcome == "inconclusive"
    assert reason in finding.why
