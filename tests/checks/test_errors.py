"""`raises` and `returns`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.errors import raises, returns

from .story import Story


def called(*, after: float = 1, phase: str = "fail", error: str | None = "OperationalError: refused") -> Story:
    """A publish that ends so, and one that is answered at once."""
    story = Story().worker("a").send("t0").at(5).event("client:main", "publish", "invoke", "t1", name="bad")
    what = {"error": error} if error else {}
    return story.at(5 + after).event("client:main", "publish", phase, "t1", name="bad", **what)  # type: ignore[arg-type]


def blocked(until: float = 20) -> Story:
    return Story().worker("a").at(5).event("client:main", "publish", "invoke", "t1", name="bad").at(until)


def got(state: str | None, error: str | None, after: float = 1) -> Story:
    story = Story().worker("a").send("t1").at(5).event("client:main", "get", "invoke", "t1", timeout=9)
    phase = "ok" if state else "fail"
    return story.at(5 + after).event("client:main", "get", phase, "t1", state=state, error=error)  # type: ignore[arg-type]


def test_a_publish_that_raises_in_time() -> None:
    finding = raises(called().ends().history(), call="publish", task="bad", error="OperationalError", within=2)
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert "OperationalError" in finding.why


@pytest.mark.parametrize(
    ("story", "told"),
    [
        (called(after=4), "after 4.0"),
        (called(error="TypeError: no"), "raised TypeError: no"),
        (called(phase="ok", error=None), "returned after"),
        (blocked(), "was still blocked 15.0"),
    ],
)
def test_a_publish_that_does_otherwise(story: Story, told: str) -> None:
    finding = raises(story.ends().history(), call="publish", task="t1", error="OperationalError", within=2)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert told in finding.why


@pytest.mark.parametrize(
    ("story", "told"),
    [
        (called(), "raised OperationalError"),
        (called(phase="ok", error=None, after=4), "after 4.0"),
        (blocked(), "block"),
    ],
)
def test_a_publish_that_does_not_return_in_time(story: Story, told: str) -> None:
    finding = returns(story.ends().history(), call="publish", within=2)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert told in finding.why


def test_a_publish_that_returns() -> None:
    assert returns(called(phase="ok", error=None).ends().history(), call="publish", within=2).outcome == "holds"
    assert returns(called().ends().history(), task="t0").outcome == "holds"


def test_the_tasks_own_exception_is_raised_by_get() -> None:
    story = got("FAILURE", "RuntimeError: told to fail").ends()
    assert raises(story.history(), call="get", error="RuntimeError").outcome == "holds"
    assert returns(story.history(), call="get").outcome == "violated"
    assert returns(got("SUCCESS", None).ends().history(), call="get", task="t1", within=2).outcome == "holds"


@pytest.mark.parametrize(
    ("error", "over", "outcome"),
    [
        ("KeyError: 't1'", False, "holds"),
        ("KeyError: 't2'", False, "violated"),
        ("TimeoutError: t1", False, "violated"),
        ("KeyError: 't1'", True, "violated"),  # nobody else was reading
    ],
)
def test_two_threads_that_meet_in_the_buffer_of_results(error: str, over: bool, outcome: str) -> None:
    """KF-97, where a scenario names it."""
    story = Story().worker("a").send("t1").at(4).event("client:main", "get", "invoke", "t0", timeout=9)
    other = {"kind": "get", "phase": "ok", "task": "t0", "state": "SUCCESS"}
    story = story.at(4.5).event("client:main", **other) if over else story
    story = story.at(5).event("client:main", "get", "invoke", "t1", timeout=9)
    story = story.at(6).event("client:main", "get", "ok", "t1", state="SUCCESS", error=error)
    history = (story if over else story.event("client:main", **other)).ends().history()
    assert returns(history, call="get", known=["KF-97"]).outcome == outcome
    assert returns(history, call="get").outcome == "violated"


def test_a_command_that_nobody_could_be_told() -> None:
    story = Story().worker("a").send("t1").event("client:main", "control", "invoke", command="revoke", ids=["t1"])
    story.event("client:main", "control", "fail", command="revoke", ids=["t1"], error="OperationalError: refused")
    assert raises(story.ends().history(), call="control", task="t1").outcome == "holds"
    assert returns(story.ends().history(), call="control").outcome == "violated"


def test_a_workers_own_publishes_do_not_count() -> None:
    story = Story().worker("a").event("worker:a", "publish", "invoke", "t1", name="add")
    story.event("worker:a", "publish", "fail", "t1", name="add", error="OperationalError: x")
    assert returns(story.ends().history()).outcome == "inconclusive"


def test_what_nobody_called_proves_nothing() -> None:
    assert raises(Story().worker("a").ends().history(), call="publish").outcome == "inconclusive"
    assert raises(called().ends().history(), call="get").outcome == "inconclusive"
    assert returns(Story().worker("a").ends().history()).outcome == "inconclusive"
    assert returns(called().ends().history(), task="unheard_of").outcome == "inconclusive"
    assert raises(blocked(6).ends().history(), within=10).outcome == "inconclusive"
