"""A worker killed while it is held at a point has left exactly the keys that the point implies."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from pytest_celery_chaos.engine.pattern import Pattern
from pytest_celery_chaos.history.event import POINTS, Event
from pytest_celery_chaos.system import wait

from .lab import EACH_VERSION, Lab, Process, life

#: (point, after it): queue, unacked, index, result.
LEFT = {
    ("pop", False): (1, 0, 0, False),
    ("pop", True): (0, 0, 0, False),  # lost: kombu's receipt is not atomic
    ("record", True): (0, 1, 1, False),
    ("run", False): (0, 1, 1, False),
    ("run", True): (0, 1, 1, False),
    ("store", False): (0, 1, 1, False),
    ("store", True): (0, 1, 1, True),
    ("ack", False): (0, 1, 1, True),
    ("ack", True): (0, 0, 0, True),
}


def left(lab: Lab) -> tuple[int, int, int, bool]:
    keys = lab.keys()
    return len(keys["queues"]["celery"]), len(keys["unacked"]), len(keys["index"]), "job" in keys["results"]


def pattern(point: str, after: bool, **more: Any) -> Pattern:
    kind, phase = POINTS[point][int(after)]
    return Pattern(kind, phase, **more)


def hold(lab: Lab, where: Pattern, deadline: float = 20) -> tuple[threading.Event, list[Event], Any]:
    """Arm a hold that lasts until it is released; returns the flag set when it is reached, the event, the moment."""
    reached, found = threading.Event(), list[Event]()

    def action(_: Any, event: Event) -> None:
        found.append(event)
        reached.set()

    armed = lab.gate.arm(where, action, deadline=deadline, keep=True)
    return reached, found, armed


def kill_at(lab: Lab, worker: Process, point: str, after: bool) -> None:
    """Hold the worker at a point of its next task and kill its whole group there."""
    source = f"worker:{worker.child.name.partition(':')[2]}"
    # There is no task yet when the worker asks for one.
    whom = {} if (point, after) == ("pop", False) else {"ids": ["job"]}
    reached, found, armed = hold(lab, pattern(point, after, source=source, **whom))
    if whom:
        lab.client().send_task("count", task_id="job")
    wait.for_event(reached, what=f"a process to be held at {point}", timeout=20, last=worker.tail)
    if not whom:
        lab.client().send_task("count", task_id="job")
    before = left(lab)
    worker.kill()
    armed.release()
    assert before == left(lab) == LEFT[point, after], (point, after)
    kind, phase = POINTS[point][int(after)]
    assert (found[0].kind, found[0].phase) == (kind, phase)
    if kind != "pop":
        assert life(worker.events, "job")[-1] == (f"{kind}:{phase}" if phase else kind)


@pytest.mark.parametrize(("point", "after"), LEFT)
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_killed_at_a_point(lab: Lab, pool: str, point: str, after: bool) -> None:
    kill_at(lab, lab.worker("5.7", pool, settings={"task_acks_late": True}), point, after)


@pytest.mark.soak
@pytest.mark.parametrize(("point", "after"), LEFT)
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
@pytest.mark.parametrize("version", EACH_VERSION)
def test_killed_at_a_point_on_every_version(lab: Lab, version: str, pool: str, point: str, after: bool) -> None:
    for _ in range(5):
        lab.server.client(0).flushall()
        lab.gate.close()
        lab.renew()
        kill_at(lab, lab.worker(version, pool, settings={"task_acks_late": True}), point, after)


def due(lab: Lab, *tasks: str) -> None:
    """Leave messages as a worker that was killed long ago has left them."""
    client, app = lab.server.client(0), lab.client()
    for task in tasks:
        app.send_task("count", task_id=task)
        message = client.rpop("celery")
        assert isinstance(message, bytes)
        client.hset("unacked", f"tag-{task}", b"[" + message + b', "", "celery"]')
        client.zadd("unacked_index", {f"tag-{task}": 0})


@pytest.mark.parametrize("version", ["5.3", "5.7"])
@pytest.mark.parametrize(
    ("where", "restored", "mutex"),
    [
        (Pattern("sweep", "invoke"), 0, True),
        (Pattern("restore", "invoke", ids=["due-"]), 0, True),
        (Pattern("restore", "ok", ids=["due-"]), 1, True),
        (Pattern("restore", "ok", names=["count"]), 1, True),
        (Pattern("sweep", "ok"), 3, True),
    ],
    ids=["sweep-before", "restore-before", "restore-after", "restore-after-by-name", "sweep-after"],
)
def test_held_in_the_sweep(lab: Lab, version: str, where: Pattern, restored: int, mutex: bool) -> None:
    due(lab, "due-1", "due-2", "due-3")
    reached, _, armed = hold(lab, where)
    worker = lab.worker(version, "solo", ready=False)
    wait.for_event(reached, what="the sweep to be held", timeout=20, last=worker.tail)
    keys = lab.keys()
    assert len(keys["queues"]["celery"]) == restored
    assert len(keys["unacked"]) == len(keys["index"]) == 3 - restored
    assert keys["mutex"] is mutex
    lab.disarm(armed)
    worker.until("ready")
    for task in ("due-1", "due-2", "due-3"):
        worker.until("succeeded", None, task)
    assert worker.of("sweep", "ok")[0].attrs["restored"] == 3


def test_held_when_a_revoke_is_known_and_when_it_is_only_heard(lab: Lab) -> None:
    worker = lab.worker("5.7", "prefork")
    reached, _, armed = hold(lab, pattern("revoke", False, ids=["gone"]))
    lab.client().control.revoke(["other", "gone"], reply=False)
    wait.for_event(reached, what="the revoke to be heard", timeout=10, last=worker.tail)
    assert not worker.of("revoke", "ok")
    lab.disarm(armed)
    worker.until("revoke", "ok")


def test_a_held_thread_leaves_the_others_running(lab: Lab) -> None:
    worker = lab.worker("5.7", "threads", concurrency=2)
    reached, _, armed = hold(lab, Pattern("started", None, ids=["held"]))
    lab.client().send_task("add", task_id="held")
    wait.for_event(reached, what="a thread to be held", timeout=10, last=worker.tail)
    lab.client().send_task("add", task_id="free")
    worker.until("succeeded", None, "free")
    assert not worker.of("returned", None, "held")
    lab.disarm(armed)
    worker.until("succeeded", None, "held")
    released = worker.of("released")[0]
    assert (released.task, released.attrs["how"]) == ("held", "go")


def test_a_worker_that_is_told_to_end_while_it_is_held_ends_when_it_is_released(lab: Lab) -> None:
    worker = lab.worker("5.7", "solo", settings={"task_acks_late": True})
    reached, _, armed = hold(lab, Pattern("popped", None, ids=["job"]))
    lab.client().send_task("add", task_id="job")
    wait.for_event(reached, what="the worker to be held", timeout=10, last=worker.tail)
    worker.child.signal(signal.SIGTERM)
    worker.until("signal")
    assert worker.child.alive
    lab.disarm(armed)
    assert worker.child.wait(10).code == 0
