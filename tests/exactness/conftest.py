"""Servers and environments for the tests of exactness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from extras import server_needed

from .bench import Bench


def bench_or_skip(pool: str, store: Path, **more: object) -> Bench:
    """A bench; without its server the test is skipped, and in CI it fails."""
    with server_needed():
        return Bench(pool, store, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Bench]]:
    """One environment for each pool; its whole record must be without a gap at the end."""
    benches: dict[str, Bench] = {}

    def bench(pool: str) -> Bench:
        if pool not in benches:
            benches[pool] = bench_or_skip(pool, tmp_path_factory.mktemp(pool))
        return benches[pool]

    yield bench
    defects = {pool: list(bench.close().defects()) for pool, bench in benches.items()}
    assert not any(defects.values()), defects


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """An environment for this test alone, whose record must be without a gap."""
    benches: list[Bench] = []

    def bench(pool: str, **more: object) -> Bench:
        benches.append(bench_or_skip(pool, tmp_path, **more))
        return benches[-1]

    yield bench
    defects = [list(bench.close().defects()) for bench in benches]
    assert not any(defects), defects


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long runs are asked for: ``-m soak``."""
    if "soak" not in (config.option.markexpr or ""):
        for item in items:
            if "soak" in item.keywords and Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="minutes long: ask for it with -m soak"))
