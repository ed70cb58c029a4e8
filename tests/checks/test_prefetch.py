"""`prefetched` and `prefetch_limit`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.prefetch import prefetch_limit, prefetched

from .story import Story


def worker(limit: int = 2, name: str = "a") -> Story:
    story = Story(worker_prefetch_multiplier=limit).worker(name)
    story.events[-1].attrs["concurrency"] = 1  # type: ignore[index]
    return story


def holding(*tasks: str, limit: int = 2) -> Story:
    story = worker(limit).send(*tasks)
    for task in tasks:
        story.takes("a", task)
    return story


def test_what_a_worker_may_hold() -> None:
    finding = prefetched(holding("t1", "t2").acks("a", "t1").ends(unacked=["t2"]).history())
    assert (finding.outcome, finding.seen) == ("holds", 2)


def test_what_is_done_is_not_held() -> None:
    story = worker(1).send("t1", "t2", "t3", "t4").works("a", "t1").takes("a", "t2").restores("a", "t2", "shutdown")
    story.takes("a", "t3").event("worker:a", "reject", "ok", "t3", tag="tag-t3", requeue=False).takes("a", "t4")
    assert prefetched(story.ends().history()).seen == 1


@pytest.mark.parametrize(("count", "args"), [(3, {}), (7, {}), (2, {"max": 1})])
def test_more_than_that_violates(count: int, args: dict[str, int]) -> None:
    story = holding(*(f"t{number}" for number in range(count)))
    finding = prefetched(story.ends().history(), **args)  # type: ignore[arg-type]
    assert (finding.outcome, finding.seen) == ("violated", count)
    assert f"worker:a held {count} messages" in finding.why


def test_each_life_is_one_of_its_own() -> None:
    story = holding("t1", "t2").kill("a").worker("a")
    story.events[-1].attrs["concurrency"] = 1  # type: ignore[index]
    story.takes("a", "t1", redelivered=True)
    assert prefetched(story.ends().history()).outcome == "holds"


def test_nothing_received_or_no_limit_is_inconclusive() -> None:
    assert prefetched(worker().ends().history()).outcome == "inconclusive"
    assert prefetched(holding("t1", limit=0).ends().history()).outcome == "inconclusive"
    assert prefetched(holding("t1").ends().history(), worker="b").outcome == "inconclusive"


def limits(*counts: int, limit: int = 4) -> Story:
    story = worker(limit)
    for count in counts:
        story.event("worker:a", "prefetch", count=count)
    return story


def test_a_limit_that_is_as_it_was() -> None:
    assert prefetch_limit(limits(4, 1, 2, 4).ends().history()).outcome == "holds"


@pytest.mark.parametrize("counts", [(4, 1), (4, 1, 2, 3), (4, 5, 6)])
def test_a_limit_that_is_not(counts: tuple[int, ...]) -> None:
    finding = prefetch_limit(limits(*counts).ends().history())
    assert (finding.outcome, finding.seen) == ("violated", counts[-1])
    assert "not 4" in finding.why


def test_a_limit_that_nobody_set_proves_nothing() -> None:
    assert prefetch_limit(limits(4, 4).ends().history()).outcome == "holds"
    assert prefetch_limit(limits().ends().history()).outcome == "inconclusive"
    assert prefetch_limit(limits(4, 1).kill("a").ends().history()).outcome == "inconclusive"
    assert prefetch_limit(limits(4, 1).ends().dies("a").history()).outcome == "violated"
