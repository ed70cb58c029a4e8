"""Four times the history takes about four times as long to judge: no check looks at everything for everything."""

from __future__ import annotations

import time
from typing import Any

from pytest_celery_chaos.checks.judge import judge
from pytest_celery_chaos.history.log import Header, History

from .story import START, Story

CHECKS: list[dict[str, Any]] = [
    {"check": "completed", "args": {"task": "add", "state": "any"}},
    {"check": "executions", "args": {"task": "add", "max": 3}},
    {"check": "overlap", "args": {"max": 2}},
    {"check": "redelivered", "args": {"task": "add"}},
    {"check": "never_started", "args": {"task": "add"}},
    {"check": "requeued", "args": {"task": "add", "worker": "a"}},
    {"check": "consumes", "args": {"within": 0.001}},
    {"check": "loop", "args": {"task": "add", "of": "executions"}},
    {"check": "latency", "args": {"of": "completion", "max": 0.001}},
    {"check": "latency", "args": {"of": "redelivery"}},
    {"check": "returns", "args": {"task": "add"}},
]


def busy(count: int) -> History:
    """Many tasks that a solo worker and a pool of threads took, gave back, swept, revoked, ran again and discarded."""
    story = Story().worker("a", pool="threads").worker("b", pool="solo")
    tasks = [f"t{number}" for number in range(count)]
    story.send(*tasks)
    for task in tasks:
        story.takes("a", task).starts("a", task).restores("a", task, "shutdown")
    for task in tasks:
        story.revoke(task, heard_by=["b"]).event("worker:b", "sweep", "invoke").event("worker:b", "sweep", "ok")
    story.kill("a").looks(queues={"celery": tasks})
    for task in tasks:
        story.takes("b", task, redelivered=True).starts("b", task).succeeds("b", task)
        story.discards("b", task).acks("b", task)
    story.ends()
    return History(story.events, Header("r1", START, 0))


def cost(count: int) -> float:
    """CPU seconds of judging, the best of three."""
    best = float("inf")
    for _ in range(3):
        history = busy(count)
        begin = time.process_time()
        judge(history, {"scenario": "s", "expect": CHECKS})
        best = min(best, time.process_time() - begin)
    return best


def test_judging_grows_with_the_history_and_not_with_its_square() -> None:
    small, large = cost(250), cost(1000)
    assert large / small < 9, (
        f"4 times the history took {large / small:.1f} times as long ({small:.3f} s, {large:.3f} s)"
    )
