"""Faults of data, seen from outside by plain Redis reads."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from kombu import Connection, Exchange, Queue

from pytest_celery_chaos.brokers.roles import RoleName
from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.system import wait

from .conftest import SetUp, Stage, solo

ID = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"


@pytest.fixture(scope="module")
def only(set_up: SetUp) -> Stage:
    return set_up(workers=[solo("a", start=False, statedb="redis")], plan={"queues": {"orders": {}}})


@pytest.fixture
def stage(only: Stage) -> Stage:
    """A server with one key of every role, two of those that can be narrowed."""
    stage = only
    stage.run.heal()
    stage.outside().flushall()
    with Connection(stage.broker.url(0)) as connection:
        for name in ("orders", "other"):
            Queue(name, Exchange(name), routing_key=name).bind(connection.default_channel).declare()
    broker, backend = stage.outside(0), stage.outside(1)
    broker.lpush("orders", message("one"), message("two"))
    broker.lpush("celery", message("three"))
    broker.hset("unacked", mapping={"tag-1": held("one"), "tag-2": held("two")})
    broker.zadd("unacked_index", {"tag-1": 1.0, "tag-2": 2.0})
    broker.set("unacked_mutex", "held", ex=300)
    broker.rpush(f"{ID}.reply.celery.pidbox", "reply")
    for task in ("one", "two"):
        backend.set(f"celery-task-meta-{task}", json.dumps({"status": "SUCCESS"}), ex=3600)
    for part in ("j", "s", "t"):
        backend.set(f"celery-taskset-meta-{ID}.{part}", "1", ex=3600)
    backend.sadd(f"celery-taskset-meta-{ID}.d", "one")
    backend.set(f"celery-taskset-meta-{ID}.c", "1", ex=3600)
    backend.set(f"celery-taskset-meta-{ID}", "[]")
    return stage


#: By role, where one key of it lies.
EVERY: dict[str, tuple[int, str]] = {
    "queue": (0, "orders"),
    "unacked": (0, "unacked"),
    "unacked_index": (0, "unacked_index"),
    "unacked_mutex": (0, "unacked_mutex"),
    "binding": (0, "_kombu.binding.orders"),
    "binding_permanent": (0, "_kombu.binding_permanent.orders"),
    "binding_deadlines": (0, "_kombu.binding_deadlines"),
    "reply": (0, f"{ID}.reply.celery.pidbox"),
    "result": (1, "celery-task-meta-one"),
    "group": (1, f"celery-taskset-meta-{ID}"),
    "chord": (1, f"celery-taskset-meta-{ID}.d"),
    "statedb": (15, "celery:worker:state:a@chaos:zrevoked"),
}


def test_every_role_is_tried() -> None:
    assert set(EVERY) == set(get_args(RoleName))


@pytest.fixture
def every(stage: Stage) -> Stage:
    """And the keys that only an older application, or a worker of another kind, writes."""
    stage.outside(0).zadd("_kombu.binding_deadlines", {"orders": 1.0})
    stage.outside(15).set("celery:worker:state:a@chaos:zrevoked", b"revoked ids")
    return stage


@pytest.mark.parametrize("role", EVERY)
def test_each_role_expires_and_is_given_back_what_it_had(every: Stage, role: str) -> None:
    db, key = EVERY[role]
    client = every.outside(db)
    before = client.pttl(key)
    every.chaos.expire(role=role, ttl=50)
    assert 0 < client.pttl(key) <= 50_000
    every.chaos.heal()
    assert client.pttl(key) == before if before == -1 else 50_000 < client.pttl(key) <= before


@pytest.mark.parametrize("by", ["garbage", "another_type"])
@pytest.mark.parametrize("role", EVERY)
def test_each_role_is_overwritten_and_the_garbage_taken_away(every: Stage, role: str, by: str) -> None:
    db, key = EVERY[role]
    client = every.outside(db)
    kind, size, expires = client.type(key), len(content(client, key)), client.pttl(key) > 0
    every.chaos.overwrite(role=role, by=by)
    assert (client.type(key) == kind) == (by == "garbage")
    now = content(client, key)
    assert len(now) == (size if by == "garbage" else 1)
    assert all(b"garbage" in each for each in now)
    assert (client.pttl(key) > 0) == expires
    every.chaos.heal()
    assert not client.exists(key), "what was there before does not come back"


@pytest.mark.parametrize("role", EVERY)
def test_each_role_is_deleted_for_good(every: Stage, role: str) -> None:
    db, key = EVERY[role]
    every.chaos.delete(role=role)
    assert key in every.told("delete")["keys"]
    every.chaos.heal()
    assert not every.outside(db).exists(key)


def message(task: str) -> str:
    return json.dumps({"body": "", "headers": {"id": task, "task": "add"}, "properties": {}})


def held(task: str) -> str:
    return json.dumps([json.loads(message(task)), "orders", "orders"])


@pytest.mark.parametrize(
    ("narrowed", "db", "gone"),
    [
        ({"role": "queue", "queue": "orders"}, 0, {"orders"}),
        ({"role": "queue"}, 0, {"orders", "celery"}),
        ({"role": "unacked"}, 0, {"unacked"}),
        ({"role": "unacked_index"}, 0, {"unacked_index"}),
        ({"role": "unacked_mutex"}, 0, {"unacked_mutex"}),
        ({"role": "binding", "exchange": "orders"}, 0, {"_kombu.binding.orders"}),
        (
            {"role": "binding_permanent"},
            0,
            {"_kombu.binding_permanent.orders", "_kombu.binding_permanent.other"},
        ),
        ({"role": "reply"}, 0, {f"{ID}.reply.celery.pidbox"}),
        ({"role": "result"}, 1, {"celery-task-meta-one", "celery-task-meta-two"}),
        ({"role": "group"}, 1, {f"celery-taskset-meta-{ID}"}),
        ({"role": "chord", "part": "s"}, 1, {f"celery-taskset-meta-{ID}.s"}),
        ({"role": "chord", "part": "d"}, 1, {f"celery-taskset-meta-{ID}.d"}),
        ({"role": "chord"}, 1, {f"celery-taskset-meta-{ID}.{part}" for part in "jstdc"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_delete_takes_away_the_keys_of_a_role_and_no_others(
    stage: Stage, narrowed: dict[str, Any], db: int, gone: set[str]
) -> None:
    before = names(stage)
    stage.chaos.delete(**narrowed)
    assert before - names(stage) == {(db, name) for name in gone}
    assert set(stage.told("delete")["keys"]) == gone
    stage.chaos.heal()
    assert before - names(stage) == {(db, name) for name in gone}, "nothing brings back what was deleted"


def names(stage: Stage) -> set[tuple[int, str]]:
    return {(db, key.decode()) for db in (0, 1) for key in stage.outside(db).keys("*")}


def test_delete_takes_one_task_out_of_what_holds_many(stage: Stage) -> None:
    broker = stage.outside()
    sent(stage, "two")
    stage.chaos.delete(role="queue", task="two")
    assert [json.loads(each)["headers"]["id"] for each in broker.lrange("orders", 0, -1)] == ["one"]
    stage.chaos.delete(role="unacked_index", task="two")
    assert broker.zrange("unacked_index", 0, -1) == [b"tag-1"]
    stage.chaos.delete(role="unacked", task="two")
    assert list(broker.hgetall("unacked")) == [b"tag-1"]
    stage.chaos.delete(role="result", task="two")
    assert stage.outside(1).exists("celery-task-meta-one")
    assert not stage.outside(1).exists("celery-task-meta-two")


def sent(stage: Stage, task: str) -> None:
    """As if a client had published it: what a step calls a task is looked up in the history."""
    stage.run.live.emit("publish", "ok", task=task, source="client:main", name="add", queue="orders")


def test_a_fault_that_finds_nothing_says_so(stage: Stage) -> None:
    before = len(stage.chaos.history.of("fault", "fail"))
    for verb in (stage.chaos.delete, stage.chaos.expire, stage.chaos.overwrite):
        with pytest.raises(FaultWithoutEffect, match="no key with role 'binding' of exchange 'absent' is there now"):
            verb(role="binding", exchange="absent")
    with pytest.raises(FaultWithoutEffect, match="no key with role 'queue' of task 'never-sent'"):
        stage.chaos.delete(role="queue", task="never-sent")
    with pytest.raises(UsageError, match="keys of role 'unacked' cannot be narrowed by 'exchange'"):
        stage.chaos.delete(role="unacked", exchange="orders")
    failed = stage.chaos.history.of("fault", "fail")
    assert len(failed) == before + 5, "a fault that did nothing is not one that was applied"


def test_expire_gives_keys_an_end_and_heal_gives_them_back_what_they_had(stage: Stage) -> None:
    broker, backend = stage.outside(), stage.outside(1)
    stage.chaos.expire(role="binding", exchange="orders", ttl=50)
    stage.chaos.expire(role="result", ttl=50)
    assert 0 < broker.pttl("_kombu.binding.orders") <= 50_000
    assert 0 < backend.pttl("celery-task-meta-one") <= 50_000
    assert broker.pttl("_kombu.binding.other") == -1
    stage.chaos.heal()
    assert broker.pttl("_kombu.binding.orders") == -1
    assert 3500_000 < backend.pttl("celery-task-meta-one") <= 3600_000


def test_what_expires_at_once_is_gone(stage: Stage) -> None:
    stage.chaos.expire(role="unacked")
    wait.until(lambda: not stage.outside().exists("unacked"), what="unacked to expire", timeout=5)
    stage.chaos.heal()
    assert not stage.outside().exists("unacked")


def content(client: Any, key: str) -> list[bytes]:
    kind = client.type(key)
    if kind == b"list":
        return list(client.lrange(key, 0, -1))
    if kind == b"hash":
        return list(client.hvals(key))
    if kind == b"zset":
        return list(client.zrange(key, 0, -1))
    return list(client.smembers(key)) if kind == b"set" else [client.get(key)]


@pytest.mark.parametrize("role", ["queue", "unacked", "unacked_index", "binding"])
def test_a_key_of_another_type_blinds_nobody(stage: Stage, role: str) -> None:
    stage.chaos.overwrite(role=role, by="another_type")
    overwritten = stage.told("overwrite")["keys"]
    assert all(stage.outside().type(key) == b"string" for key in overwritten)
    assert set(stage.run.look()["damaged"]) == set(overwritten)
    assert stage.run.measure("damaged").attrs["spaces"]
    stage.chaos.heal()
    assert "damaged" not in stage.run.look()


def test_heal_leaves_what_was_written_after_the_garbage(stage: Stage) -> None:
    broker = stage.outside()
    stage.chaos.overwrite(role="queue", queue="orders")
    broker.lpush("orders", message("three"))
    stage.chaos.heal()
    assert [json.loads(each)["headers"]["id"] for each in broker.lrange("orders", 0, -1)] == ["three"]


def test_one_tasks_message_can_be_garbled_alone(stage: Stage) -> None:
    sent(stage, "one")
    stage.chaos.overwrite(role="unacked", task="one")
    assert {name: b"garbage" in value for name, value in stage.outside().hgetall("unacked").items()} == {
        b"tag-1": True,
        b"tag-2": False,
    }


def test_flush_empties_a_database_or_all_of_them(stage: Stage) -> None:
    stage.chaos.flush(db=1)
    assert stage.outside(1).dbsize() == 0
    assert stage.outside(0).dbsize() > 0
    with pytest.raises(FaultWithoutEffect, match="database 1 is empty"):
        stage.chaos.flush(db=1)
    stage.outside(1).set("key", "value")
    stage.chaos.flush()
    assert stage.outside(1).dbsize() == stage.outside(0).dbsize() == 0
    with pytest.raises(FaultWithoutEffect, match="the server is empty"):
        stage.chaos.flush()


def test_a_workers_state_is_found_by_its_name(set_up: SetUp) -> None:
    pytest.importorskip("celery_redis_statedb")
    stage = set_up(workers=[solo("a", statedb="redis"), solo("b", statedb="redis")])
    state = stage.outside(15)
    wait.until(lambda: len(state.keys("*a@chaos:*")) >= 1, what="a to write its state", timeout=10)
    stage.chaos.delete(role="statedb", worker="a")
    left = [key.decode() for key in state.keys("*")]
    assert left
    assert all("b@chaos" in key for key in left)


def test_keys_of_one_application_alone(set_up: SetUp) -> None:
    from pytest_celery_chaos.engine.plan import AppSpec

    stage = set_up(workers=[solo("a"), solo("b", app="shop")], plan={"apps": {"shop": AppSpec(db=4, result_db=5)}})
    bound = ("_kombu.binding.celery", 0), ("_kombu.binding.celery", 4)
    assert all(stage.outside(db).exists(key) for key, db in bound)
    stage.chaos.delete(role="binding", exchange="celery", app="shop")
    assert [bool(stage.outside(db).exists(key)) for key, db in bound] == [True, False]
