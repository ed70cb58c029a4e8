"""What is made older is older, seen from outside by its score, its expiry, or the time in it."""

from __future__ import annotations

import json
import pickle
import time
import zlib

import pytest

from pytest_celery_chaos.errors import FaultWithoutEffect
from pytest_celery_chaos.system import wait

from .conftest import SetUp, Stage, solo

HOUR = 3600.0


@pytest.fixture(scope="module")
def stage(set_up: SetUp) -> Stage:
    return set_up()


def held(task: str) -> str:
    return json.dumps([{"body": "", "headers": {"id": task}, "properties": {}}, "celery", "celery"])


def test_a_message_is_older_by_its_score(stage: Stage) -> None:
    broker = stage.outside()
    broker.hset("unacked", mapping={"tag-1": held("one"), "tag-2": held("two")})
    broker.zadd("unacked_index", {"tag-1": 10_000.0, "tag-2": 20_000.0})
    stage.run.live.emit("publish", "ok", task="two", source="client:main", name="add", queue="celery")
    stage.chaos.age(task="two", by="1h")
    assert dict(broker.zrange("unacked_index", 0, -1, withscores=True)) == {b"tag-1": 10_000.0, b"tag-2": 16_400.0}
    stage.chaos.age(by="500ms")
    assert dict(broker.zrange("unacked_index", 0, -1, withscores=True)) == {b"tag-1": 9_999.5, b"tag-2": 16_399.5}
    assert stage.told("age")["count"] == 2
    broker.flushall()


@pytest.mark.parametrize(
    ("role", "db", "key"),
    [
        ("unacked_mutex", 0, "unacked_mutex"),
        ("result", 1, "celery-task-meta-one"),
        ("chord", 1, "celery-taskset-meta-one.s"),
        ("group", 1, "celery-taskset-meta-one"),
        ("reply", 0, "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f.reply.celery.pidbox"),
    ],
)
def test_what_expires_does_so_sooner(stage: Stage, role: str, db: int, key: str) -> None:
    client = stage.outside(db)
    client.set(key, "value", ex=300)
    stage.chaos.age(role=role, by="200s")
    assert 90_000 < client.pttl(key) <= 100_000
    stage.chaos.age(role=role, by="100s")
    wait.until(lambda: not client.exists(key), what=f"{key} to expire", timeout=5)
    client.set(key, "value")
    with pytest.raises(FaultWithoutEffect, match="does not expire"):
        stage.chaos.age(role=role, by="1s")
    client.delete(key)
    with pytest.raises(FaultWithoutEffect, match="no key with role"):
        stage.chaos.age(role=role, by="1s")


def test_an_hour_passes_for_a_message_without_waiting(set_up: SetUp) -> None:
    stage = set_up(
        workers=[solo("a"), solo("b", start=False)],
        plan={"config": {"task_acks_late": True, "broker_transport_options": {"visibility_timeout": 3600}}},
    )
    stage.chaos.kill(worker="a", when={"after": "run", "task": "count"})
    stage.chaos.send(task="count", name="job")
    stage.chaos.wait(at="offline", worker="a")
    stage.chaos.age(task="job", by="1h")
    begun = time.monotonic()
    stage.chaos.start(worker="b")
    stage.chaos.wait(at="succeeded", task="job", worker="b", timeout="20s")
    assert time.monotonic() - begun < 60
    assert stage.run.keys()["unacked"] == {}


def test_a_revoke_in_redis_is_older(set_up: SetUp) -> None:
    pytest.importorskip("celery_redis_statedb")
    stage = set_up(workers=[solo("a", statedb="redis")])
    stage.chaos.send(task="count", countdown=60.0, name="job")
    stage.chaos.wait(at="received", task="job")
    stage.chaos.revoke(task="job")
    stage.chaos.wait(after="revoke", task="job")
    stage.chaos.stop(worker="a")
    before = stamps(stage)
    stage.chaos.age(role="statedb", worker="a", by="3h")
    after = stamps(stage)
    assert len(before) == 1
    assert {item: pytest.approx(stamp - 3 * HOUR) for item, stamp in before.items()} == after


def stamps(stage: Stage) -> dict[str, float]:
    data = stage.outside(15).get("celery:worker:state:a@chaos:zrevoked")
    return dict(pickle.loads(zlib.decompress(data)).as_dict())  # type: ignore[arg-type]
