"""The points of the protocol: how a worker is brought to each of them, and what is left when it is killed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pytest_celery_chaos.history.event import POINTS

from .bench import Bench, Left


@dataclass(frozen=True)
class Point:
    """A side of a point, how to get there, and what must be left.

    :param bring: starts the worker and makes it come there; the kill is armed by it. Returns the step of the kill.
    :param reason: why the point was reached, where there are several ways.
    :param rounds: how often each pool is killed there in the ordinary test run, and *soak* in the long one.
    """

    side: str
    name: str
    bring: Callable[[Bench, Point, str], int]
    left: Left
    reason: str = ""
    rounds: int = 1
    soak: int = 50

    def __str__(self) -> str:
        return "-".join(filter(None, (self.side, self.name, self.reason)))

    def left_by(self, pool: str) -> Left:
        """What is left where *pool* matters: a message that goes back to its queue is at once somebody's again."""
        if pool != "solo" and self.reason in ("requeue", "reject") and self.left.queue:
            # Their main process has a BRPOP pending all the while, so that the server hands it the message in the
            # instant of its return, and it dies in the socket. Solo asks for the next message when it is done.
            return replace(self.left, queue=0)
        return self.left

    @property
    def step(self) -> str:
        """The last thing that the killed worker wrote about the task, as in ``Bench.life``."""
        kind, phase = POINTS[self.name][self.side == "after"]
        return f"{kind}:{phase}" if phase else kind


def _of_a_task(task: str) -> Callable[[Bench, Point, str], int]:
    def bring(bench: Bench, point: Point, label: str) -> int:
        bench.start()
        step = bench.kill_at(point.side, point.name, label)
        bench.send(label, task)
        return step

    return bring


def _sweeping(bench: Bench, point: Point, label: str) -> int:
    """Three messages are due when the worker starts: it sweeps as soon as it is connected."""
    bench.send(label, "count", times=3)
    bench.lay_due(label)
    step = bench.kill_at(point.side, point.name, label if point.name == "restore" else None)
    bench.start(ready=False)
    return step


def _shutting_down(bench: Bench, point: Point, label: str) -> int:
    """A warm shutdown gives back what was received and not started: a task with a countdown."""
    _waiting_for_its_time(bench, label)
    step = bench.kill_at(point.side, point.name, label)
    bench.chaos.kill(worker="a", signal="TERM", target="main")
    return step


def _revoking(bench: Bench, point: Point, label: str) -> int:
    _waiting_for_its_time(bench, label)
    step = bench.kill_at(point.side, point.name, label)
    bench.chaos.revoke(task=label)
    return step


def _waiting_for_its_time(bench: Bench, label: str) -> None:
    bench.start()
    bench.send(label, "count", countdown=600.0)
    bench.wait_for(label, "received")


_count, _refuse, _unknown = _of_a_task("count"), _of_a_task("refuse"), _of_a_task("nobody knows me")

#: Queue, unacked, index, mutex, result, executions: the broker's copy stays until the acknowledgement is done.
ALL = [
    # Lost: kombu's receipt is not atomic. After the pop and before the record are two names of one instant.
    Point("after", "pop", _count, Left(0, 0, 0, False, None, 0), rounds=1, soak=25),
    Point("before", "record", _count, Left(0, 0, 0, False, None, 0), rounds=1, soak=25),
    Point("after", "record", _count, Left(0, 1, 1, False, None, 0), rounds=2),
    Point("before", "run", _count, Left(0, 1, 1, False, None, 0), rounds=3, soak=100),
    Point("after", "run", _count, Left(0, 1, 1, False, None, 1), rounds=2),
    Point("before", "store", _count, Left(0, 1, 1, False, None, 1), rounds=2),
    Point("after", "store", _count, Left(0, 1, 1, False, "SUCCESS", 1), rounds=2),
    Point("before", "ack", _count, Left(0, 1, 1, False, "SUCCESS", 1), rounds=2),
    Point("after", "ack", _count, Left(0, 0, 0, False, "SUCCESS", 1), rounds=2),
    Point("before", "reject", _unknown, Left(0, 1, 1, False, None, 0), "unknown", soak=25),
    Point("after", "reject", _unknown, Left(0, 0, 0, False, None, 0), "unknown", soak=25),
    Point("before", "reject", _refuse, Left(0, 1, 1, False, None, 1), "requeue", soak=25),
    Point("after", "reject", _refuse, Left(1, 0, 0, False, None, 1), "requeue", soak=25),
    Point("before", "restore", _refuse, Left(0, 1, 1, False, None, 1), "reject", soak=20),
    Point("after", "restore", _refuse, Left(1, 0, 0, False, None, 1), "reject", soak=20),
    Point("before", "restore", _shutting_down, Left(0, 1, 1, False, None, 0), "shutdown", soak=10),
    Point("after", "restore", _shutting_down, Left(1, 0, 0, False, None, 0), "shutdown", soak=10),
    Point("before", "restore", _sweeping, Left(0, 3, 3, True, None, 0), "sweep", soak=20),
    Point("after", "restore", _sweeping, Left(1, 2, 2, True, None, 0), "sweep", soak=20),
    Point("before", "sweep", _sweeping, Left(0, 3, 3, True, None, 0)),
    Point("after", "sweep", _sweeping, Left(3, 0, 0, True, None, 0)),
    Point("before", "revoke", _revoking, Left(0, 1, 1, False, None, 0)),
    Point("after", "revoke", _revoking, Left(0, 1, 1, False, "REVOKED", 0)),
]


def kill_there(bench: Bench, point: Point) -> None:
    """Kill a worker at *point*, once, and hold what it leaves against what the point implies."""
    label = bench.clean()
    held = bench.killed(point.bring(bench, point, label))
    seen = bench.left(label)
    wanted = POINTS[point.name][point.side == "after"][0]
    assert seen == point.left_by(bench.pool), (
        f"{seen} after being killed {point} ({label}, {bench.pool}): {bench.life(label)}"
    )
    assert held.attrs["event"] == wanted, f"{label} was killed at {held}"
    if point.name not in ("sweep", "revoke"):
        assert bench.life(label)[-1] == point.step, f"{label} went on behind {point}: {bench.life(label)}"
