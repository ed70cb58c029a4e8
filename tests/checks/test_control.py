"""`answered`: replies to remote-control commands."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.control import answered
from pytest_celery_chaos.history.verdict import Finding

from .story import Story


def workers(*names: str) -> Story:
    story = Story()
    for name in names or ("a",):
        story.worker(name, hostname=f"{name}@h")
    return story


def asks(story: Story, *replies: str, command: str = "ping", **attrs: object) -> Story:
    story.event("client:main", "control", "invoke", command=command, ids=[])
    attrs = attrs or {"replies": {f"{name}@h": "pong" for name in replies}}
    return story.event("client:main", "control", "ok", command=command, ids=[], **attrs)


def judged(story: Story, **args: str) -> Finding:
    return answered(story.ends().history(), **args)


def test_a_command_that_all_workers_answer_holds() -> None:
    finding = judged(asks(workers("a", "b"), "a", "b"))
    assert (finding.outcome, finding.seen, finding.why) == ("holds", 0, "2 of 2 replies came")


def test_a_worker_that_does_not_answer_violates() -> None:
    finding = judged(asks(workers("a", "b"), "a"))
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "was not answered by worker:b" in finding.why
    assert judged(asks(asks(workers("a", "b"), "a", "b"))).seen == 2


def test_a_command_that_fails_is_not_answered() -> None:
    story = workers().event("client:main", "control", "invoke", command="ping", ids=[])
    story.event("client:main", "control", "fail", command="ping", ids=[], error="OperationalError: away")
    finding = judged(story)
    assert (finding.outcome, finding.seen) == ("violated", 1)
    assert "OperationalError" in finding.why


def test_only_the_command_and_the_worker_that_are_meant_count() -> None:
    story = asks(asks(workers("a", "b"), "a"), "a", "b", command="stats")
    assert judged(story, command="stats").outcome == "holds"
    assert judged(story, worker="a").outcome == "holds"


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (workers(), "no client waited"),
        (asks(workers(), command="revoke", replies=None), "no client waited"),
        (asks(Story()).worker("a", hostname="a@h"), "no client waited"),
        (asks(workers().dies("a")), "a worker that lived"),
    ],
)
def test_what_nobody_was_to_answer_shows_nothing(story: Story, reason: str) -> None:
    finding = judged(story)
    assert finding.outcome == "inconclusive"
    assert reason in finding.why
