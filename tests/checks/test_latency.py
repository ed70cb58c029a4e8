"""`latency`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.latency import latency

from .story import Story


def told() -> Story:
    """Three tasks that took 1, 2 and 4 s from their publish to their end, one of them delivered twice."""
    story = Story().worker("a").worker("b")
    for number, took in enumerate((1, 2, 4)):
        task = f"t{number}"
        story.at(10 * number).send(task).at(10 * number + took / 2).takes("a", task)
        story.starts("a", task).at(10 * number + took).succeeds("a", task).acks("a", task)
    story.at(40).send("t9").takes("a", "t9").at(43).restores("b", "t9").at(45).works("b", "t9", redelivered=True)
    story.at(60).event("worker:a", "connection_lost", error="gone")
    story.at(66).event("worker:a", "connection_back").event("worker:a", "consuming", address="127.0.0.1:5")
    return story


@pytest.mark.parametrize(
    ("of", "low", "high"),
    [
        ("publish", 0.0005, 0.002),
        ("queueing", 1.9, 2.1),
        ("execution", 1.9, 2.1),
        ("completion", 4.9, 5.1),
        ("redelivery", 4.9, 5.1),
        ("recovery", 5.9, 6.1),
    ],
)
def test_each_is_measured_and_shown(of: str, low: float, high: float) -> None:
    finding = latency(told().ends().history(), of=of)  # type: ignore[arg-type]
    assert finding.outcome == "holds"
    assert finding.seen is not None
    assert low < finding.seen < high
    assert all(figure in finding.why for figure in ("p50", "p99", "max"))


def test_the_figures_are_of_the_tasks_asked_for() -> None:
    finding = latency(told().ends().history(), of="completion", task="t1", max=2.5, p99=2.5, p50=2.5)
    assert finding.outcome == "holds"
    assert finding.seen == pytest.approx(2, abs=0.01)


def test_the_maximum_is_bounded() -> None:
    finding = latency(told().ends().history(), of="completion", max=3)
    assert finding.outcome == "violated"
    assert finding.seen == pytest.approx(5, abs=0.01)
    assert "max was to be 3 s at most" in finding.why
    assert {event.task for event in finding.evidence} == {"t9"}


def test_the_median_is_bounded() -> None:
    finding = latency(told().ends().history(), of="completion", p50=1.5)
    assert finding.outcome == "violated"
    assert {event.task for event in finding.evidence} == {"t1"}


def test_the_99th_percentile_is_bounded() -> None:
    assert latency(told().ends().history(), of="completion", p50=3, p99=3).outcome == "violated"


def test_what_is_still_open_counts_with_its_time() -> None:
    story = told().at(70).send("t10").at(90).ends(queues={"celery": ["t10"]})
    finding = latency(story.history(), of="queueing", max=10)
    assert finding.outcome == "violated"
    assert finding.seen == pytest.approx(20, abs=0.1)
    assert "1 still open" in finding.why


def test_a_publish_that_blocks_counts() -> None:
    story = Story().worker("a").event("client:main", "publish", "invoke", "t1", name="add").at(15).ends()
    assert latency(story.history(), of="publish", max=2).outcome == "violated"


def test_what_is_too_short_is_told() -> None:
    story = Story().worker("a").event("worker:a", "soft_wait", "invoke").at(2)
    history = story.event("worker:a", "soft_wait", "ok").ends().history()
    assert latency(history, of="soft_shutdown", min=1.5, max=2.5).outcome == "holds"
    finding = latency(history, of="soft_shutdown", min=3)
    assert finding.outcome == "violated"
    assert finding.seen == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("of", ["publish", "queueing", "execution", "completion", "redelivery", "recovery"])
def test_where_nothing_happened_there_is_nothing_to_measure(of: str) -> None:
    assert latency(Story().worker("a").ends().history(), of=of).outcome == "inconclusive"  # type: ignore[arg-type]
