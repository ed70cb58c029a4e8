"""A prefork worker killed while it is held at a point has left exactly what the point implies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .bench import Bench, Left
from .points import ALL, Point, kill_there


@pytest.mark.parametrize("point", ALL, ids=str)
def test_killed_at_a_point(shared: Callable[[str], Bench], point: Point) -> None:
    for _ in range(point.rounds):
        kill_there(shared("prefork"), point)


def test_an_early_acknowledgement_leaves_nothing_of_a_task_that_never_ran(own: Callable[..., Bench]) -> None:
    bench = own("prefork", config={"task_acks_late": False})
    label = bench.clean()
    bench.start()
    bench.chaos.hold(when={"before": "run", "task": label})
    bench.send(label, "count")
    bench.wait_for(label, "ack", "ok")  # in the parent, while the child waits
    bench.kill()
    assert bench.left(label) == Left(0, 0, 0, False, None, 0)
