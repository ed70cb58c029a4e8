"""No event is lost that was written before a SIGKILL, however the kill falls.

A process is killed soon after an event, by somebody who saw the event in its ledger and waits for nothing. What was
seen must be in the history in the end, numbered without a gap (closing a bench asks for both), and what the world
outside shows (a line that a task's body left, a key in Redis) must have been written down before it was done.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from random import Random

import pytest

from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system import wait

from .bench import PATIENCE, Bench

#: Messages of one life: more than a worker gets done before it is killed.
MESSAGES = 40
#: The latest event of a life that it is killed after.
LATEST = 150
#: Children of one pool that are killed before the pool is.
CHILDREN = 12


class Life:
    """One life of the worker, with messages enough to be busy until it is killed."""

    def __init__(self, bench: Bench, messages: int) -> None:
        self.bench, self.label = bench, bench.clean()
        self.prefix = bench.run.declare(self.label, "count", messages)
        bench.start()
        self.begun = len(bench.run.live.read())
        order = {"task": "count", "args": [], "kwargs": {}, "options": {}, "rate": None}
        bench.run.client_of().post("send", {**order, "prefix": self.prefix, "times": messages})

    def events(self) -> list[Event]:
        """What the worker has written about its tasks."""
        return [e for e in self.bench.run.live.since(self.begun) if e.role == "worker" and self.mine(e.task)]

    def mine(self, task: str | None) -> bool:
        return task is not None and task.startswith(self.prefix)

    def until(self, found: Callable[[], Event | None], what: str) -> Event:
        return wait.until(found, what=what, timeout=PATIENCE, last=self.bench.run.live.last_words, every=0.0005)

    def nothing_is_missing(self) -> None:
        """Hold the ledgers against the world outside: nothing was done that had not been written down."""
        events = self.events()
        told = {(e.kind, e.phase, e.task) for e in events}
        ran = {(e.task, e.pid) for e in events if e.kind == "started"}
        for line in self.bench.executions():
            task, pid = line.split()
            assert not self.mine(task) or (task, int(pid)) in ran, f"{task} ran in {pid}, and its start is not recorded"
        keys = self.bench.chaos.keys()
        for task in filter(self.mine, keys["unacked"].values()):
            assert ("popped", None, task) in told, f"{task} is unacked, and its pop is not recorded"
        waiting = {*keys["queues"]["celery"], *keys["unacked"].values()}
        for task in filter(self.mine, keys["results"]):
            assert ("store", "invoke", task) in told, f"{task} has a result, and its store is not recorded"
            assert task in waiting or ("ack", "invoke", task) in told, f"{task} is acked, and that is not recorded"


def kill_the_group(bench: Bench, chance: Random) -> int:
    """Kill the whole worker after an event that is left to chance; returns how many were killed."""
    wanted, life = chance.randint(1, LATEST), Life(bench, MESSAGES)
    child = bench.child

    def come() -> Event | None:
        events = life.events()
        return events[wanted - 1] if len(events) >= wanted else None

    life.until(come, f"event {wanted} of a worker")
    child.signal(signal.SIGKILL, group=True)
    bench.kill()
    life.nothing_is_missing()
    return 1


def kill_children(bench: Bench, chance: Random, times: int) -> int:
    """Kill processes of a pool one after the other, each after an event of its own; then the group."""
    life, killed = Life(bench, times * 20), {bench.worker.pid}
    for _ in range(times):
        wanted = chance.choice([("started", None), ("returned", None), ("store", "ok"), ("succeeded", None)])
        position = len(bench.run.live.read())

        def come(wanted: tuple[str, str | None] = wanted, position: int = position) -> Event | None:
            new = bench.run.live.since(position)
            return next((e for e in new if (e.kind, e.phase) == wanted and e.pid not in killed), None)

        victim = life.until(come, f"{wanted} in a child").pid
        assert bench.child.signal_pid(victim, signal.SIGKILL), f"child {victim} ended by itself"
        killed.add(victim)
    bench.kill()
    life.nothing_is_missing()
    return len(killed)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_killed_after_an_event(own: Callable[..., Bench], pool: str) -> None:
    bench, chance = own(pool, concurrency=2 if pool == "prefork" else 1), Random(1)
    for _ in range(3):
        kill_the_group(bench, chance)


def test_children_killed_after_an_event(own: Callable[..., Bench]) -> None:
    assert kill_children(own("prefork", concurrency=3), Random(2), CHILDREN) == CHILDREN + 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_killed_after_an_event_many_times(own: Callable[..., Bench], pool: str, seed: int) -> None:
    bench, chance = own(pool, concurrency=2 if pool == "prefork" else 1), Random(seed)
    assert sum(kill_the_group(bench, chance) for _ in range(12)) == 12


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_children_killed_after_an_event_many_times(own: Callable[..., Bench], seed: int) -> None:
    assert kill_children(own("prefork", concurrency=3), Random(seed), CHILDREN) == CHILDREN + 1
