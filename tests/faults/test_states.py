"""Faults of a server's state, seen from outside by what it answers, and by what it has kept."""

from __future__ import annotations

import json
import socket

import pytest
import redis

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.faults.filler import FILLER_DB

from .conftest import SetUp


def test_a_replica_refuses_writes_until_it_is_healed(set_up: SetUp, server: str) -> None:
    stage = set_up(server=server)
    client = stage.outside()
    client.lpush("celery", "message")
    stage.chaos.readonly(name="failover")
    assert client.info("replication")["role"] == "slave"
    with pytest.raises(redis.ReadOnlyError):
        client.lpush("celery", "more")
    assert stage.run.keys()["queues"]["celery"] == ["?"], "the harness's reads go on"
    stage.chaos.heal(what="failover")
    assert client.info("replication")["role"] == "master"
    assert client.lpush("celery", "more") == 2


@pytest.mark.parametrize("persistence", ["none", "rdb", "aof-everysec"])
def test_a_server_that_cannot_save_refuses_writes(set_up: SetUp, server: str, persistence: str) -> None:
    stage = set_up(server=server, persistence=persistence)
    client = stage.outside()
    client.lpush("celery", message("one"))
    points = client.config_get("save")
    stage.chaos.misconf(name="disk")
    assert client.info("persistence")["rdb_last_bgsave_status"] == "err"
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        client.lpush("celery", message("two"))
    assert stage.run.keys()["queues"]["celery"] == ["one"]
    stage.chaos.heal(what="disk")
    assert client.lpush("celery", message("two")) == 2
    assert client.config_get("save") == points
    stage.chaos.restart(broker="main", how="warm")
    kept = stage.run.keys()["queues"]["celery"]
    assert kept == ([] if persistence == "none" else ["one", "two"]), "its persistence is what it was"


def message(task: str) -> str:
    return json.dumps({"body": "", "headers": {"id": task, "task": "add"}, "properties": {}})


def test_a_server_that_goes_on_without_saving_cannot_be_misconfigured(set_up: SetUp) -> None:
    stage = set_up(options={"stop-writes-on-bgsave-error": "no"})
    with pytest.raises(UsageError, match="stop-writes-on-bgsave-error is no"):
        stage.chaos.misconf()


@pytest.mark.parametrize("persistence", ["rdb", "aof-always"])
def test_a_loading_server_says_so_and_has_everything_afterwards(set_up: SetUp, server: str, persistence: str) -> None:
    stage = set_up(server=server, persistence=persistence)
    stage.outside().lpush("celery", message("one"))
    stage.chaos.loading(lasts="4s", name="load")
    # Both questions at once: a server that loads answers seldom, and may be through before a second one comes.
    with socket.create_connection(("127.0.0.1", stage.broker.port), timeout=10) as connection:
        connection.sendall(b"LLEN celery\r\nINFO persistence\r\n")
        said = b""
        while b"loading:" not in said:
            said += connection.recv(65536)
    assert said.startswith(b"-LOADING ")
    assert b"\r\nloading:1\r\n" in said
    client = stage.outside(socket_timeout=10)
    stage.chaos.heal(what="load")
    assert client.info("persistence")["loading"] == 0
    assert stage.run.keys()["queues"]["celery"] == ["one"]
    assert stage.outside(FILLER_DB).dbsize() == 0
    assert [event.source for event in stage.chaos.history.of("online")] == ["broker:main"] * 2


def test_loading_ends_by_itself(set_up: SetUp) -> None:
    stage = set_up(persistence="aof-always")
    stage.outside().lpush("celery", message("one"))
    stage.chaos.loading(lasts="1s")
    assert stage.chaos.snapshot()["queues"]["celery"] == ["one"], "a look waits for it"
    stage.run.heal()
    assert stage.outside(FILLER_DB).dbsize() == 0


def test_a_server_that_keeps_nothing_has_nothing_to_load(set_up: SetUp) -> None:
    with pytest.raises(UsageError, match="has no persistence: it has nothing to load"):
        set_up().chaos.loading()
