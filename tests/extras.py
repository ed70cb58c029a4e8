"""Tests of what an extra brings skip where it is not installed, and fail in CI."""

from __future__ import annotations

import importlib.util
import os

import pytest


def need_statedb() -> None:
    """The package celery-redis-statedb, of the extra ``statedb``."""
    if importlib.util.find_spec("celery_redis_statedb") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("celery-redis-statedb is not installed: pip install pytest-celery-chaos[statedb]")
        pytest.skip("the extra `statedb` is not installed")
