"""A scenario that needs the extra `statedb`, run where it is not installed."""

from __future__ import annotations

import importlib.util

import pytest
from extras import need_statedb
from live import Runs, live_session, runs

from pytest_celery_chaos.workers import statedb

__all__ = ["live_session", "runs"]


def test_it_is_inconclusive_and_says_how_to_get_it(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == statedb.PACKAGE else find(name, *rest)
    )
    ran = runs("workers: {a: {pool: solo, statedb: redis}}\nsteps:\n- send: add\n")
    assert ran.verdict.value == "inconclusive"
    (error,) = ran.history.of("error")
    assert "pip install pytest-celery-chaos[statedb]" in error.attrs["error"]
    assert not ran.history.of("hello", source="worker:a")


def test_with_it_the_same_scenario_holds(runs: Runs) -> None:
    need_statedb()
    ran = runs("workers: {a: {pool: solo, statedb: redis}}\nsteps:\n- send: add\n")
    assert ran.verdict.value == "holds", ran
    assert [e.attrs["store"] for e in ran.history.of("revoked_loaded", "ok")] == ["redis"]
