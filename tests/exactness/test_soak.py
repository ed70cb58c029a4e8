"""The same many times over, on a busy machine: ``pytest -m soak -n 4 tests/exactness``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .bench import Bench
from .points import ALL, Point, kill_there
from .test_solo import IN_THREADS, kill_before_pop

pytestmark = pytest.mark.soak

#: Kills of one environment: its history is read again and again, and must not become too long.
AT_ONCE = 25


def parts(point: Point) -> list[int]:
    """How often *point* is killed at, in portions."""
    return [min(AT_ONCE, point.soak - begun) for begun in range(0, point.soak, AT_ONCE)]


def portions(points: list[Point]) -> list[object]:
    return [pytest.param(p, n, id=f"{p}-{i}") for p in points for i, n in enumerate(parts(p))]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize(("point", "times"), portions(ALL))
def test_killed_at_a_point(own: Callable[..., Bench], pool: str, point: Point, times: int) -> None:
    bench = own(pool)
    for _ in range(times):
        kill_there(bench, point)


@pytest.mark.parametrize("point", IN_THREADS, ids=str)
def test_killed_while_a_thread_is_held(own: Callable[..., Bench], point: Point) -> None:
    bench = own("threads")
    for _ in range(AT_ONCE):
        kill_there(bench, point)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("part", [0, 1])
def test_killed_before_it_asks_for_a_message(own: Callable[..., Bench], pool: str, part: int) -> None:
    bench = own(pool)
    for _ in range(AT_ONCE):
        kill_before_pop(bench)
