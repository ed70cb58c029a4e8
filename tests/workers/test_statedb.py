"""`statedb:` of a worker: its command line and environment, and what it says without the extra."""

from __future__ import annotations

import importlib.util
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from extras import need_statedb

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.workers import statedb
from pytest_celery_chaos.workers.spec import WorkerSpec

ADDRESS = "redis://:secret@127.0.0.1:1/15"


@pytest.mark.parametrize(
    ("given", "options", "variables"),
    [
        (None, [], {}),
        ("redis", ["--redis-statedb", ADDRESS], {"CELERY_CHAOS_STATEDB": "1", "REDIS_STATEDB_URL": ADDRESS}),
        ("redis-env", [], {"CELERY_CHAOS_STATEDB": "1", "REDIS_STATEDB_URL": ADDRESS}),
        ("redis://127.0.0.1/0", ["--statedb", "redis://127.0.0.1/0"], {}),
    ],
)
def test_what_a_worker_is_given(
    given: str | None, options: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    spec = WorkerSpec("a", statedb=given)
    assert statedb.options(spec, tmp_path, ADDRESS) == options
    assert statedb.environment(spec, ADDRESS) == variables


def test_a_file_lies_in_the_folder_of_the_run(tmp_path: Path) -> None:
    options = statedb.options(WorkerSpec("a", statedb="file"), tmp_path, ADDRESS)
    assert options == ["--statedb", str(tmp_path / "state" / "a.state")]
    assert (tmp_path / "state").is_dir()


@pytest.mark.parametrize("given", ["redis", "redis-env"])
def test_without_the_extra_the_error_says_how_to_get_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str, *_: Any) -> None:
        assert name == statedb.PACKAGE

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    statedb.check(WorkerSpec("a", statedb="file"))
    with pytest.raises(
        UsageError, match=r"worker 'a'.*celery-redis-statedb(?s:.*)pip install pytest-celery-chaos\[statedb\]"
    ):
        statedb.check(WorkerSpec("a", statedb=given))


def test_an_environment_of_another_celery_brings_the_package_itself() -> None:
    spec = WorkerSpec("a", statedb="redis", celery="5.5")
    assert statedb.packages(spec) == (statedb.REQUIREMENT,)
    assert statedb.packages(WorkerSpec("a", statedb="file", celery="5.5")) == ()


def test_the_extra_brings_no_plugin_of_pytest() -> None:
    need_statedb()
    assert not distribution("celery-redis-statedb").entry_points
