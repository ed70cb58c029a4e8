"""What is stored and who is connected, on real servers: by role, without expiry, and soon told of many keys."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.brokers.storage import Tenant, connections, read, space
from pytest_celery_chaos.system.sockets import owners

from .conftest import Launch

SHOP = Naming(queues=["celery", "orders"])
MANY = 20_000


@pytest.fixture
def server(make_any: Launch) -> LocalServer:
    server = make_any()
    server.start()
    return server


@pytest.fixture
def client(server: LocalServer) -> Iterator[Redis]:
    with server.client(0) as client:
        yield client


def roles(client: Redis, *tenants: Tenant) -> dict[str, Any]:
    found: dict[str, Any] = space(client, tenants or [Tenant(SHOP)])["roles"]
    return found


def test_keys_are_counted_by_role(client: Redis) -> None:
    client.lpush("orders", "x")
    client.set("celery-task-meta-1", "{}", ex=100)
    client.set("celery-task-meta-2", "{}")
    client.set("celery-chaos:filler", "x")
    client.set("strange", "x" * 1000)
    found = space(client, [Tenant(SHOP)])
    counts = {role: (each["keys"], each["no_ttl"]) for role, each in found["roles"].items()}
    assert counts == {"queue": (1, 1), "result": (2, 1), "other": (1, 1)}
    assert found["no_ttl"]["result"] == ["celery-task-meta-2"]
    assert found["roles"]["other"]["names"] == ["strange"]
    assert found["roles"]["other"]["bytes"] > 1000 > found["roles"]["result"]["bytes"] > 0


def test_bindings_are_told_in_words(client: Redis) -> None:
    client.sadd("_kombu.binding.shop", "order\x06\x16order.#\x06\x16orders", "\x06\x16\x06\x16celery")
    assert space(client, [Tenant(SHOP)])["bindings"] == {"shop": ["order|order.#|orders", "||celery"]}


def test_what_is_outside_the_prefixes_is_nobodys(client: Redis) -> None:
    client.lpush("mine:orders", "x")
    client.lpush("theirs:orders", "x")
    client.lpush("orders", "x")
    mine, theirs = (Tenant(Naming(queues=["orders"], prefix=prefix)) for prefix in ("mine:", "theirs:"))
    assert roles(client, mine, theirs)["queue"]["keys"] == 2
    assert roles(client, mine)["other"]["names"] == ["orders", "theirs:orders"]


def test_results_do_not_belong_where_messages_are_kept(client: Redis) -> None:
    client.set("celery-task-meta-1", "{}")
    client.lpush("orders", "x")
    assert roles(client, Tenant(SHOP, results=False))["other"]["names"] == ["celery-task-meta-1"]
    assert roles(client, Tenant(SHOP, messages=False))["other"]["names"] == ["orders"]


def fill(client: Redis, **options: Any) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(MANY):
        pipe.set(f"celery-task-meta-{number}", b"x" * 100, **options)
        if number % 1000 == 999:
            pipe.execute()


def test_twenty_thousand_results_are_told_without_asking_each(client: Redis) -> None:
    fill(client, ex=1000)
    client.sadd("_kombu.binding.celery", "a")
    before = client.info("commandstats")
    begin = time.process_time()
    found = roles(client)
    took = time.process_time() - begin
    after = client.info("commandstats")
    result = found["result"]
    assert (result["keys"], result["no_ttl"], result["names"]) == (MANY, 0, [])
    assert MANY * 100 < result["bytes"] < MANY * 1000
    calls = {name: stats["calls"] - before.get(name, {"calls": 0})["calls"] for name, stats in after.items()}
    assert sum(calls.values()) < 500, calls
    assert took < 1, f"{took:.3f} s of CPU"


def test_one_of_many_that_never_expires_is_found(client: Redis) -> None:
    fill(client, ex=1000)
    client.persist("celery-task-meta-777")
    found = space(client, [Tenant(SHOP)])
    assert found["roles"]["result"]["no_ttl"] == 1
    assert found["no_ttl"]["result"] == ["celery-task-meta-777"]


def test_our_own_keys_that_never_expire_hide_none(client: Redis) -> None:
    fill(client, ex=1000)
    client.set("celery-chaos:filler", "x")
    assert roles(client)["result"]["no_ttl"] == 0
    client.persist("celery-task-meta-777")
    client.expire("celery-chaos:filler", 100)
    assert roles(client)["result"]["no_ttl"] == 1


def test_connections_are_told_by_process_database_and_kind(server: LocalServer, client: Redis) -> None:
    plain, listener = Redis(port=server.port, db=1), Redis(port=server.port)
    plain.ping()
    pubsub = listener.pubsub()
    pubsub.psubscribe("x*")
    pubsub.get_message(timeout=1)
    mine = owners(server.port, {os.getpid(): "client:me"})
    assert connections(client, mine) == [
        {"process": "client:me", "db": 0, "kind": "pubsub", "count": 1, "channels": 1},
        {"process": "client:me", "db": 1, "kind": "normal", "count": 1},
    ]
    assert {each["process"] for each in connections(client, {})} == {"?"}
    pubsub.close()
    plain.close()
    listener.close()


def test_a_server_that_does_not_answer_is_told(server: LocalServer) -> None:
    server.kill()
    found = read({("main", 0): [Tenant(SHOP)]}, lambda name, db: server.client(db), {})
    assert (found["spaces"], found["clients"]) == ([], [])
    assert "Connection refused" in found["unanswered"]["main"]
