"""A moment that cannot come is refused; one that can, however late, is not."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario.read import scenario_of

HEAD = "scenario: t\nworkers: {a: {}, b: {start: false}}\nsteps:\n"

POSSIBLE = {
    "above its send": "- kill: a\n  when: {before: run, task: job}\n- send: {task: add, name: job}\n",
    "below one send, above another of the task": (
        "- send: {task: add}\n- kill: a\n  when: {before: run, task: add}\n- send: {task: add}\n"
    ),
    "a worker that starts below runs it": (
        "- send: {task: add, name: job}\n- wait: {at: started, task: job}\n- kill: a\n"
        "- kill: b\n  when: {at: started, task: job}\n- start: b\n"
    ),
    "ready of a worker that starts below": "- send: add\n- kill: b\n  when: {at: ready, worker: b}\n- start: b\n",
    "the end of what is stopped below": "- pause: {broker: main}\n  when: {at: offline, worker: a}\n- stop: a\n",
    "no task is meant": "- send: add\n- kill: a\n  when: {after: sweep}\n",
    "a mere delay": "- send: {task: add, name: job}\n- kill: a\n  when: {after: 2s, since: job}\n",
    "a wait for what stands above": "- send: {task: add, name: job}\n- wait: {after: run, task: job}\n",
    "a revoke below": "- kill: a\n  when: {before: revoke, task: job}\n- send: {task: add, name: job}\n- revoke: job\n",
}

IMPOSSIBLE = {
    "sent above": "- send: {task: add, name: job}\n- kill: a\n  when: {before: ack, task: job}\n",
    "sent above, meant by its task": "- send: {task: add}\n- kill: a\n  when: {before: ack, task: add}\n",
    "revoked above": (
        "- send: {task: add, name: job}\n- revoke: job\n- kill: a\n  when: {after: revoke, task: job}\n- send: add\n"
    ),
    "ready long ago": "- kill: a\n  when: {at: ready}\n- send: add\n",
    "started above": "- start: b\n- kill: b\n  when: {at: ready, worker: b}\n- send: add\n",
    "killed above": "- kill: a\n- start: b\n- kill: b\n  when: {at: offline, worker: a}\n",
}


@pytest.mark.parametrize("steps", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_a_moment_that_can_still_come_is_taken(steps: str) -> None:
    assert scenario_of(HEAD + steps, "x").formats[None].steps


@pytest.mark.parametrize("steps", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_moment_whose_cause_stands_above_is_refused(steps: str) -> None:
    with pytest.raises(
        ScenarioError, match=r"(?s)can no longer happen here: .* stands above.*hint: move this step above"
    ):
        scenario_of(HEAD + steps, "x")
