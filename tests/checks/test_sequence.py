"""`started_in_order` and `in_force`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.checks.sequence import started_in_order
from pytest_celery_chaos.checks.settings import in_force
from pytest_celery_chaos.errors import UsageError

from .story import Story

ORDER = ["high", "middle", "low"]


def started(*tasks: str) -> Story:
    """``h1`` is the first of `high`, ``m2`` the second of `middle`."""
    story = Story().worker("a")
    for task in sorted(tasks):
        story.send(task, name={"h": "high", "m": "middle", "l": "low"}[task[0]])
    for task in tasks:
        story.works("a", task)
    return story.ends()


def test_one_after_the_other() -> None:
    finding = started_in_order(started("h2", "h1", "m1", "l1", "l2").history(), tasks=ORDER)
    assert (finding.outcome, finding.seen) == ("holds", 0)


@pytest.mark.parametrize(
    ("tasks", "seen"),
    [(("m1", "h1", "l1"), 1), (("l1", "l2", "m1", "h1"), 3), (("h1", "l1", "m1", "l2", "m2"), 2)],
)
def test_another_order(tasks: tuple[str, ...], seen: int) -> None:
    finding = started_in_order(started(*tasks).history(), tasks=ORDER)
    assert (finding.outcome, finding.seen) == ("violated", seen)
    assert len(finding.evidence) == 2


def test_the_first_start_counts() -> None:
    story = Story().worker("a").send("h1", name="high").send("l1", name="low").works("a", "h1").works("a", "l1")
    story.works("a", "h1", redelivered=True)
    assert started_in_order(story.ends().history(), tasks=["high", "low"]).outcome == "holds"


def test_what_never_started_has_no_order() -> None:
    assert started_in_order(started("h1", "m1").history(), tasks=ORDER).outcome == "inconclusive"
    with pytest.raises(UsageError):
        started_in_order(started("h1").history(), tasks=["high"])


def test_what_is_in_force() -> None:
    history = Story().worker("a").worker("b", nested={"x": 1, "y": 2}).ends().history()
    assert in_force(history, setting="visibility_timeout", value=2).outcome == "holds"
    assert in_force(history, setting="nested", value={"x": 1}, worker="b").outcome == "holds"


@pytest.mark.parametrize(
    ("setting", "value", "seen"),
    [
        ("visibility_timeout", 3600, 2),
        ("visibility_timeout", "2", 2),
        ("task_acks_late", True, None),
        ("flag", 1, None),
    ],
)
def test_what_is_not(setting: str, value: Any, seen: float | None) -> None:
    history = Story(task_acks_late=False, flag=True).worker("a").ends().history()
    finding = in_force(history, setting=setting, value=value)
    assert (finding.outcome, finding.seen) == ("violated", seen)


@pytest.mark.parametrize("worker", [None, "b"])
def test_one_worker_where_it_is_another_is_enough(worker: str | None) -> None:
    history = Story().worker("a").worker("b", visibility_timeout=60).ends().history()
    finding = in_force(history, setting="visibility_timeout", value=2, worker=worker)
    assert (finding.outcome, finding.seen) == ("violated", 60)
    assert "worker:b" in finding.why
    assert in_force(history, setting="visibility_timeout", value=2, worker="a").outcome == "holds"


def test_a_worker_that_starts_again_with_another_value_violates() -> None:
    story = Story().worker("a").kill("a").worker("a", visibility_timeout=60)
    assert in_force(story.ends().history(), setting="visibility_timeout", value=2).outcome == "violated"


def test_what_nobody_reported() -> None:
    assert in_force(Story().worker("a").ends().history(), setting="unheard_of", value=1).outcome == "inconclusive"
    assert in_force(Story().ends().history(), setting="visibility_timeout", value=1).outcome == "inconclusive"
