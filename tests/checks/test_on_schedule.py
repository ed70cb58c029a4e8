"""`on_schedule` and `remembers`: what beat publishes comes once in each period, and it knows of what it published."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_celery_chaos.checks.schedule import on_schedule, remembers
from pytest_celery_chaos.history.verdict import Finding

from .story import Story

BEAT = "beat:ticker"


def begun(story: Story | None = None, *, at: float = 1.0, source: str = BEAT, count: int = 0) -> Story:
    """A beat that ticks first at *at*; its one task is for every 2 s, and ran *count* times as far as it knows."""
    story = (story or Story()).at(at)
    story._pids[source] = 1000 + len(story.events)
    story.event(source, "hello", role="main")
    entry = {"task": "count", "every": 2.0, "count": count, "ago": 0.0}
    return story.event(source, "ticking", entries={"tick": entry})


def publishes(story: Story, *times: float, source: str = BEAT, outcome: str = "ok") -> Story:
    for time in times:
        one = f"t{len(story.events)}"
        story.at(time).event(source, "publish", "invoke", one, name="count")
        story.event(source, "publish", outcome, one, name="count")  # type: ignore[arg-type]
    return story


def ended(story: Story, at: float, source: str = BEAT) -> Story:
    pid = story._pids[source]
    return story.at(at).event(source, "offline", by="harness", code=0, signal=None, ended=pid, asked=True)


def judged(story: Story, at: float, **args: object) -> Finding:
    """The finding where the beat ends at *at*."""
    return on_schedule(ended(story, at).ends().history(), entry="count", **args)  # type: ignore[arg-type]


def test_once_every_period() -> None:
    finding = judged(publishes(begun(), 3, 5, 7.3, 9.3), 10)
    assert (finding.outcome, finding.seen) == ("holds", 0), finding.why


@pytest.mark.parametrize(
    ("times", "end", "which", "seen"),
    [
        ([3, 3.5, 5.5], 6, "early", 1),
        ([3, 3.1, 3.2], 4, "early", 2),
        ([3, 8], 9, "late", 1),
        ([5, 7], 8, "late", 1),
        ([3, 5], 9, "late", 1),
        ([], 9, "late", 1),
        ([3, 3.5, 8], 9, None, 2),
    ],
)
def test_too_early_or_too_late_violates(times: Sequence[float], end: float, which: str | None, seen: int) -> None:
    finding = judged(publishes(begun(), *times), end, which=which)
    assert (finding.outcome, finding.seen) == ("violated", seen), finding.why
    if which is not None:
        other = {"early": "late", "late": "early"}[which]
        assert judged(publishes(begun(), *times), end, which=other).outcome != "violated"


def test_the_message_names_the_publish_and_the_one_before() -> None:
    assert "beat:ticker published 1.5" in (why := judged(publishes(begun(), 3, 3.5), 4).why)
    assert "too early at 3.5" in why
    assert "the last one at 3.0" in why


def test_what_falls_due_while_no_beat_lives_is_due_at_the_next_first_tick() -> None:
    story = ended(publishes(begun(), 3), 4)
    assert judged(publishes(begun(story, at=8), 8.2, 10.2), 11).outcome == "holds"
    story = ended(publishes(begun(), 3), 4)
    finding = judged(publishes(begun(story, at=8), 10, 12), 13)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "too late at 10.0" in finding.why


def test_a_second_life_that_publishes_again_at_once_is_early() -> None:
    story = ended(publishes(begun(), 3), 3.1)
    finding = judged(publishes(begun(story, at=3.5), 3.6, 5.6), 6, which="early")
    assert (finding.outcome, finding.seen) == ("violated", 1)


def test_a_publish_that_the_broker_has_not_taken_does_not_count() -> None:
    story = publishes(publishes(begun(), 3), 5, 7, outcome="fail")
    assert judged(publishes(story, 9, 11), 12, which="late").seen == 1
    assert judged(publishes(publishes(publishes(begun(), 3), 3.5, outcome="unknown"), 5), 6).outcome == "holds"


def test_two_beats_that_publish_the_same_entry_violate() -> None:
    story = begun(begun(), at=2, source="beat:other")
    for time in (3, 5):
        publishes(publishes(story, time), time + 1, source="beat:other")
    assert judged(story, 7, which="early").seen == 3


def test_nothing_to_compare_is_inconclusive() -> None:
    assert judged(publishes(begun(), 3), 4).outcome == "inconclusive"
    assert on_schedule(Story().ends().history(), entry="tick").outcome == "inconclusive"
    assert on_schedule(publishes(begun(), 3, 5).ends().history(), entry="none").outcome == "inconclusive"


def test_a_period_that_beat_does_not_report_can_be_given() -> None:
    assert judged(publishes(begun(), 3, 5), 6, every=1.0, slack=0.5, which="late").seen == 2


@pytest.mark.parametrize(("count", "seen"), [(2, 0), (1, 1), (0, 2), (3, -1)])
def test_what_a_beat_knows_when_it_starts_again(count: int, seen: int) -> None:
    story = ended(publishes(begun(), 3, 5), 5.5)
    finding = remembers(begun(story, at=6, count=count).ends().history(), entry="count")
    assert (finding.outcome, finding.seen) == ("violated" if seen else "holds", seen)
    assert f"knew of {count} of 2 runs of 'count'" in finding.why


def test_the_worst_of_several_starts_counts() -> None:
    story = ended(begun(ended(publishes(begun(), 3, 5), 5.5), at=6, count=2), 7)
    assert remembers(begun(story, at=8, count=0).ends().history(), entry="count").seen == 2


def test_nothing_to_remember_is_inconclusive() -> None:
    assert remembers(Story().ends().history(), entry="tick").outcome == "inconclusive"
    assert remembers(publishes(begun(), 3, 5).ends().history(), entry="count").outcome == "inconclusive"
    story = publishes(begun(begun(), at=2, source="beat:other"), 3)
    story = publishes(story, 4, source="beat:other")
    assert remembers(story.ends().history(), entry="count").outcome == "inconclusive"
