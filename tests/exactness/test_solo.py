"""A solo worker, or one with threads, killed while it is held at a point has left exactly what the point implies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .bench import Bench, Left
from .points import ALL, Point, kill_there

#: In the pool of threads, what happens in the main process is as in prefork.
IN_THREADS = [point for point in ALL if point.name in ("run", "store", "ack")]


@pytest.mark.parametrize("point", ALL, ids=str)
def test_killed_at_a_point(shared: Callable[[str], Bench], point: Point) -> None:
    for _ in range(point.rounds):
        kill_there(shared("solo"), point)


@pytest.mark.parametrize("point", IN_THREADS, ids=str)
def test_killed_while_a_thread_is_held(shared: Callable[[str], Bench], point: Point) -> None:
    kill_there(shared("threads"), point)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_killed_before_it_asks_for_a_message(shared: Callable[[str], Bench], pool: str) -> None:
    kill_before_pop(shared(pool))


def kill_before_pop(bench: Bench) -> None:
    """A worker that is about to ask has no part in what is published meanwhile."""
    label = bench.clean()
    bench.start()
    bench.chaos.hold(when={"before": "pop", "worker": "a"})
    step = bench.chaos._steps
    bench.until(lambda e: e.kind == "fault" and e.phase == "ok" and e.attrs["index"] == step, "the hold")
    bench.send(label, "count")
    assert bench.left(label) == Left(1, 0, 0, False, None, 0)
    bench.kill()
    assert bench.left(label) == Left(1, 0, 0, False, None, 0)
