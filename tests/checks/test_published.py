"""`published`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.published import published
from pytest_celery_chaos.errors import UsageError

from .story import Story, clean


def attempt(outcome: str | None, *, then: Story | None = None) -> Story:
    """A publish of t3 that ends so, or (None) not at all."""
    story = then or clean()
    story.event("client:main", "publish", "invoke", "t3", name="count", queue="celery")
    return story.event("client:main", "publish", outcome, "t3", name="count", queue="celery") if outcome else story  # type: ignore[arg-type]


def test_each_was_published_once() -> None:
    finding = published(clean().ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("holds", 1)


def test_published_too_often() -> None:
    finding = published(clean().send("t1").ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "t1 was published twice" in finding.why
    assert published(clean().send("t1").ends().history(), task="add", max=2).outcome == "holds"


def test_published_too_seldom() -> None:
    assert published(clean().ends().history(), task="add", min=2).seen == 1
    finding = published(attempt("fail").ends().history(), task="t3")
    assert (finding.outcome, finding.seen) == ("violated", 0)


def test_an_attempt_of_which_nobody_knows_is_judged_by_the_keys() -> None:
    for outcome in (None, "unknown"):
        assert published(attempt(outcome).ends().history(), task="t3").seen == 0
        assert published(attempt(outcome).ends(queues={"celery": ["t3"]}).history(), task="t3").outcome == "holds"
        assert published(attempt(outcome).works("a", "t3").ends().history(), task="t3").outcome == "holds"
        assert published(attempt(outcome).history(), task="t3").outcome == "inconclusive"


def test_a_retry_is_no_publish_of_its_own() -> None:
    story = clean()
    for phase in ("invoke", "ok"):
        story.event("worker:a", "publish", phase, "t1", name="add", queue="celery", retries=1)  # type: ignore[arg-type]
    assert published(story.ends().history(), task="add").outcome == "holds"


def test_nobody_tried() -> None:
    assert published(clean().ends().history(), task="other").outcome == "inconclusive"
    with pytest.raises(UsageError, match="exactly"):
        published(clean().history(), task="add", exactly=1, max=2)
