"""Faults of memory, seen from outside: what the server has evicted by itself, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.faults.filler import FILLER_DB

from .conftest import SERVERS, SetUp, Stage

POLICIES = [f"{of}-{how}" for of in ("allkeys", "volatile") for how in ("lru", "lfu", "random")] + ["volatile-ttl"]


def plant(stage: Stage) -> None:
    """A binding, a queue, and a result, which alone has an expiry, as all that Celery stores for itself has not."""
    stage.run.heal()
    stage.outside().flushall()
    stage.outside().sadd("_kombu.binding.orders", "orders\x06\x16\x06\x16orders")
    stage.outside().lpush("celery", "message")
    stage.outside(1).set("celery-task-meta-one", "{}", ex=3600)


def clean(stage: Stage) -> bool:
    """Whether nothing of the pressure is left."""
    return stage.outside(FILLER_DB).dbsize() == 0 and stage.outside().config_get("maxmemory")["maxmemory"] == "0"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_evicts_what_it_says_by_itself(set_up: SetUp, server: str, policy: str) -> None:
    stage = set_up(server=server, maxmemory_policy=policy)
    plant(stage)
    before = stage.outside().info("stats")["evicted_keys"]
    stage.chaos.evict(role="result")
    assert not stage.outside(1).exists("celery-task-meta-one")
    assert stage.outside().info("stats")["evicted_keys"] > before
    assert clean(stage)
    plant(stage)
    if policy.startswith("volatile"):
        # It has no expiry, and so these policies never choose it: writes are refused instead.
        with pytest.raises(FaultWithoutEffect, match=rf"not evicted under {policy}: _kombu.binding.orders; .*OOM"):
            stage.chaos.evict(role="binding", exchange="orders")
        assert stage.outside().exists("_kombu.binding.orders") == stage.outside().exists("celery") == 1
    else:
        stage.chaos.evict(role="binding", exchange="orders")
        assert not stage.outside().exists("_kombu.binding.orders")
        assert "0:_kombu.binding.orders" in stage.told("evict")["keys"]
    assert clean(stage)


def test_any_keys_may_be_asked_for(set_up: SetUp) -> None:
    stage = set_up(maxmemory_policy="allkeys-random")
    plant(stage)
    stage.chaos.evict(keys=2)
    told = stage.told("evict")
    assert len(told["keys"]) >= 2
    assert told["evicted"] >= 2
    assert told["policy"] == "allkeys-random"
    left = {f"{db}:{key.decode()}" for db in (0, 1) for key in stage.outside(db).keys("*")}
    assert not left & set(told["keys"])


def test_no_eviction_without_a_policy(set_up: SetUp) -> None:
    stage = set_up()
    with pytest.raises(UsageError, match="evicts nothing: its maxmemory-policy is noeviction"):
        stage.chaos.evict(keys=1)
    with pytest.raises(UsageError, match="a role or a count of keys, not both"):
        stage.chaos.evict(keys=1, role="queue")


@pytest.mark.parametrize("maxmemory", [None, "10mb"])
def test_fill_has_writes_refused_until_it_is_healed(set_up: SetUp, server: str, maxmemory: str | None) -> None:
    stage = set_up(server=server, maxmemory=maxmemory)
    client, limit = stage.outside(), stage.outside().config_get("maxmemory")
    client.lpush("celery", "message")
    stage.chaos.fill(name="full")
    refused: list[Any] = []
    for command in (
        lambda: client.lpush("celery", "more"),
        lambda: client.zadd("unacked_index", {"tag": 1.0}),
        lambda: client.set("key", b"x"),
    ):
        with pytest.raises(redis.OutOfMemoryError) as caught:
            command()
        refused.append(caught.value)
    assert len(refused) == 3
    assert client.rpop("celery") == b"message", "what needs no memory goes on"
    assert stage.run.keys()["queues"]["celery"] == [], "the harness's own reads go on"
    stage.chaos.heal(what="full")
    assert client.lpush("celery", "more") == 1
    assert stage.outside(FILLER_DB).dbsize() == 0
    assert client.config_get("maxmemory") == limit


def test_fill_says_where_a_server_evicts_instead(set_up: SetUp) -> None:
    stage = set_up(maxmemory_policy="allkeys-lru")
    plant(stage)
    with pytest.raises(FaultWithoutEffect, match="takes writes when it is full: its policy is allkeys-lru"):
        stage.chaos.fill()
    assert clean(stage)


def test_fillers_are_nobodys_leak(set_up: SetUp) -> None:
    stage = set_up()
    stage.chaos.fill()
    found = stage.run.measure("full").attrs["spaces"]
    assert found
    assert not [space for space in found if space["roles"].get("other") or space["roles"].get("harness")]
    stage.chaos.heal()
