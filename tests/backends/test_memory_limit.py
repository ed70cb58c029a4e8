"""A server that reaches its container's memory limit: the kernel kills it, and the history says so."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from extras import engine_needed

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.interactive import start
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.runner import finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import UsageError

IMAGES = ("valkey/valkey:8.1", "redis:8.0")
LIMIT = BrokerSpec(mem_limit="64m")


@pytest.fixture(params=IMAGES)
def chaos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chaos]:
    engine_needed(request.param)
    session = Session(tmp_path)
    server: Any = "valkey" if "valkey" in request.param else "redis"
    begun = start(Plan("limit", broker=dataclasses.replace(LIMIT, image=request.param, server=server)), session)
    yield begun
    finish(begun.run, session)
    session.close()


def test_a_kill_by_the_kernel_is_told_from_others(chaos: Chaos) -> None:
    client = chaos.run.broker("main").client(0)
    with contextlib.suppress(redis.ConnectionError):
        for number in range(200):
            client.set(str(number), b"x" * 1_000_000)
    chaos.run.broker("main").child.wait(10)
    [killed] = chaos.history.of("offline")
    assert (killed.attrs["signal"], killed.attrs["asked"], killed.attrs["oom"]) == (9, False, True)
    assert str(chaos.run.broker("main").child.exit) == "killed by SIGKILL of the kernel, out of memory"
    chaos.restart(broker="main")
    assert chaos.run.broker("main").ping() == "+PONG"
    chaos.kill(broker="main")
    other = chaos.history.of("offline")[-1]
    assert (other.attrs["signal"], other.attrs["asked"]) == (9, True)
    assert "oom" not in other.attrs


def test_a_limit_asks_for_a_container() -> None:
    assert LIMIT.runs_in("local") == "container"
    with pytest.raises(UsageError, match="mem_limit '64m' for a server that is no container"):
        config.check(dataclasses.replace(LIMIT, provider="local"))
    with pytest.raises(UsageError, match="mem_limit 'much'"):
        config.check(BrokerSpec(mem_limit="much"))
