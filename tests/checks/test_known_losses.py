"""`lost` with `known`: each loss must be explained by a fault that struck just then, or it is held against the run."""

from __future__ import annotations

from pytest_celery_chaos.checks.delivery import lost

from .story import Story


def busy(*, dies_at: float | None, silent: str, takes_before: int = 20, takes_behind: int = 20) -> Story:
    """Messages m0, m1 … a tenth of a second apart, worked off at once by b; of *silent* nobody says a word."""
    story = Story().worker("a").worker("b")
    for number in range(takes_before + takes_behind):
        name, now = f"m{number}", 1 + number / 10
        if dies_at is not None and now > dies_at:
            story.at(dies_at).kill("a")
            dies_at = None
        story.at(now).send(name)
        if name != silent:
            story.works("b", name)
    if dies_at is not None:
        story.at(dies_at).kill("a")
    return story.at(20).ends()


def test_a_message_acknowledged_before_its_worker_died_is_kf_30() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1").kill("a").ends()
    assert lost(story.history()).seen == 1
    finding = lost(story.history(), known=["KF-30"])
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert "1 lost as KF-30 says" in finding.why


def test_a_message_popped_and_never_recorded_by_a_worker_that_died_is_kf_32() -> None:
    story = Story().worker("a").send("t1").event("worker:a", "popped", None, "t1", tag="x").kill("a").ends()
    assert lost(story.history(), known=["KF-32"]).outcome == "holds"


def test_another_cause_than_the_known_ones_is_held_against_the_run() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1").kill("a").ends()
    assert lost(story.history(), known=["KF-32"]).outcome == "violated"


def test_a_message_without_a_word_whose_turn_was_when_a_worker_died_is_kf_32() -> None:
    story = busy(dies_at=3.05, silent="m20")
    assert lost(story.history()).seen == 1
    assert lost(story.history(), known=["KF-32"]).outcome == "holds"


def test_a_message_without_a_word_whose_turn_was_after_the_death_is_not_explained() -> None:
    finding = lost(busy(dies_at=1.55, silent="m30").history(), known=["KF-32"])
    assert (finding.outcome, finding.seen) == ("violated", 1)


def shutting_down(*, pops_again: bool) -> Story:
    """As *busy*, of m20 nobody says a word; a has something else to say after that, and dies at the end."""
    story = Story().worker("a").worker("b").at(1).send("early").works("a", "early")
    for number in range(40):
        story.at(1.1 + number / 10).send(f"m{number}")
        if number != 20:
            story.works("b", f"m{number}")
        if number == 25:
            story.event("worker:a", "shutdown", "invoke", how="warm")
        if number == 30 and pops_again:
            story.send("late").works("a", "late")
    return story.at(15).kill("a").at(20).ends()


def test_a_worker_that_speaks_of_other_things_may_still_have_a_message_that_it_never_reads() -> None:
    assert lost(shutting_down(pops_again=False).history(), known=["KF-32"]).outcome == "holds"


def test_a_worker_that_took_a_later_message_had_read_all_that_it_was_sent_before() -> None:
    finding = lost(shutting_down(pops_again=True).history(), known=["KF-32"])
    assert (finding.outcome, finding.seen) == ("violated", 1)


def test_one_death_explains_one_message_that_nobody_has_a_word_of() -> None:
    story = Story().worker("a").worker("b").at(1).send("t1", "t2").kill("a").ends()
    finding = lost(story.history(), known=["KF-32"])
    assert (finding.outcome, finding.seen) == ("violated", 1)


def test_a_lost_connection_explains_as_a_death_does() -> None:
    story = Story().worker("a").at(1).send("t1").event("worker:a", "connection_lost", error="x", before=False)
    assert lost(story.ends().history(), known=["KF-32"]).outcome == "holds"


def test_a_message_that_was_acknowledged_and_never_run_by_a_living_worker_is_not_explained() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").acks("a", "t1")
    story.event("worker:a", "settled", None, "t1").kill("b").at(20).ends()
    assert lost(story.history(), known=["KF-30", "KF-32"]).outcome == "violated"


def test_a_message_that_a_worker_was_done_with_before_it_died_is_not_explained() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1")
    story.event("worker:a", "settled", None, "t1").at(20).kill("a").ends()
    assert lost(story.history(), known=["KF-30", "KF-32"]).outcome == "violated"
