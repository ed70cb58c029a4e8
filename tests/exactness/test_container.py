"""The same where broker and worker run in containers: a kill is as exact, and no event is lost."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from extras import engine_needed

from .bench import CONTAINERS, WORKER, Bench
from .points import ALL, kill_there
from .test_events import kill_children, kill_the_group

BEFORE_RUN = next(point for point in ALL if str(point) == "before-run")
POOLS = list(CONTAINERS)


@pytest.fixture(params=POOLS)
def contained(request: pytest.FixtureRequest, own: Callable[..., Bench]) -> Callable[..., Bench]:
    """A bench in containers, of each pool."""
    engine_needed(CONTAINERS[request.param][0], WORKER)
    return lambda **more: own(request.param, provider="container", **more)


def test_killed_before_the_body_of_a_task_and_after_any_event(contained: Callable[..., Bench]) -> None:
    bench, chance = contained(), Random(3)
    for _ in range(2):
        kill_there(bench, BEFORE_RUN)
    kill_the_group(bench, chance)
    if bench.pool == "prefork":
        kill_children(bench, chance, 3)


@pytest.mark.soak
@pytest.mark.parametrize("part", [0, 1])
def test_killed_before_the_body_of_a_task_many_times(contained: Callable[..., Bench], part: int) -> None:
    bench = contained()
    for _ in range(25):
        kill_there(bench, BEFORE_RUN)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_killed_after_an_event_many_times(contained: Callable[..., Bench], seed: int) -> None:
    bench, chance = contained(), Random(seed)
    assert sum(kill_the_group(bench, chance) for _ in range(20)) == 20


@pytest.mark.soak
@pytest.mark.parametrize("point", ALL, ids=str)
def test_killed_at_a_point(contained: Callable[..., Bench], point: object) -> None:
    bench = contained()
    for _ in range(5):
        kill_there(bench, point)  # type: ignore[arg-type]
