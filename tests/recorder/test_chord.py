"""What is written down of groups and chords, on every Celery version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_celery_chaos.workers.inside.celery_chaos_recorder.describe import digest

from .lab import EACH_VERSION, Lab, in_order, life

PARTS = [("part-0", 1), ("part-1", 2), ("part-2", 3)]


def chord(lab: Lab, *, fails: bool = False) -> Any:
    """Publish a chord of three parts, with ids that a test can speak of; its body returns what it is given."""
    from celery import chord as chord_of
    from celery import signature

    app = lab.client()
    header = [signature("add", (number, 0), app=app).set(task_id=task) for task, number in PARTS]
    if fails:
        header[1] = signature("fail", app=app).set(task_id="part-1")
    body = signature("collect", app=app)
    return chord_of(header, body, app=app).set(task_id="the-group").apply_async(task_id="the-body")


@pytest.mark.parametrize("version", EACH_VERSION)
@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_parts_and_what_the_body_is_given(lab: Lab, version: str, pool: str) -> None:
    worker = lab.worker(version, pool, settings={"task_acks_late": True})
    chord(lab)
    worker.until("succeeded", None, "the-body")
    worker.until("ack", "ok", "the-body")
    for index, (task, number) in enumerate(PARTS):
        invoked, done = (worker.of("chord_part", phase, task) for phase in ("invoke", "ok"))
        assert len(invoked) == len(done) == 1
        assert done[0].attrs == {"group": "the-group", "index": index, "state": "SUCCESS", "digest": str(number)}
        (stored,) = worker.of("store", "ok", task)
        assert stored.attrs == {"state": "SUCCESS", "group": "the-group", "index": index, "digest": str(number)}
        steps = life(worker.events, task)
        assert in_order(steps, "store:ok", "chord_part:invoke", "chord_part:ok", "ack:invoke")
    (dispatched,) = worker.of("chord")
    assert dispatched.task == "the-body"
    assert dispatched.attrs == {"group": "the-group", "digests": ["1", "2", "3"], "count": 3}
    assert in_order(life(worker.events, "the-body"), "chord", "publish:invoke", "popped", "succeeded")
    assert not [event for event in worker.events if event.kind.startswith("hook_")]


@pytest.mark.parametrize("version", ["5.3", "5.7"])
def test_a_part_that_fails_is_handed_in_and_the_body_is_not_published(lab: Lab, version: str) -> None:
    worker = lab.worker(version, "solo")
    chord(lab, fails=True)
    for task, _ in PARTS:
        worker.until("chord_part", "ok", task)
    worker.until("store", "ok", "the-body")
    assert worker.of("chord_part", "ok", "part-1")[0].attrs["state"] == "FAILURE"
    assert worker.of("store", "ok", "the-body")[0].attrs["state"] == "FAILURE"
    assert not worker.of("chord")
    assert not worker.of("publish")


@pytest.mark.parametrize("version", ["5.3", "5.7"])
@pytest.mark.parametrize("phase", ["invoke", "ok"])
def test_a_part_is_held_before_and_after_it_is_handed_in(lab: Lab, version: str, phase: Any) -> None:
    from pytest_celery_chaos.engine.pattern import Pattern

    seen: list[int] = []
    worker = lab.worker(version, "solo")
    keys = lab.server.client(1)
    lab.gate.arm(
        Pattern("chord_part", phase, ids=("part-0",)),
        lambda held, event: seen.append(sum(1 for _ in keys.scan_iter("celery-taskset-meta-the-group.j"))),
    )
    chord(lab)
    worker.until("succeeded", None, "the-body")
    assert seen == [0 if phase == "invoke" else 1]


def test_the_reader_of_a_group_writes_down_what_it_got(lab: Lab, tmp_path: Any) -> None:
    lab.worker("5.7", "solo")
    (tmp_path / "reader.py").write_text(
        "from celery import group\nfrom celery_chaos_tasks import add, fail\n"
        "group(add.s(n, 0).set(task_id=f'part-{n}') for n in range(3)).apply_async(task_id='g').get(timeout=20)\n"
        "try:\n    group([fail.s()]).apply_async(task_id='f').get(timeout=20)\n"
        "except RuntimeError:\n    print('raised')\n"
    )
    reader = lab.python("5.7", [str(tmp_path / "reader.py")], source="client:a")
    reader.child.wait(30)
    begun, failing = reader.of("joined", "invoke")
    assert (begun.attrs["group"], begun.attrs["ids"]) == ("g", ["part-0", "part-1", "part-2"])
    (joined,) = reader.of("joined", "ok")
    assert joined.attrs["got"] == ["0", "1", "2"]
    (raised,) = reader.of("joined", "unknown")
    assert raised.attrs["error"].startswith("RuntimeError")
    assert failing.attrs["count"] == 1


def test_the_replies_to_a_command_are_written_down_by_node(lab: Lab, tmp_path: Any) -> None:
    lab.worker("5.7", "solo")
    (tmp_path / "asker.py").write_text(
        "from celery_chaos_tasks import app\napp.control.ping(limit=1, timeout=10)\n"
        "app.control.rate_limit('add', '5/s')\n"
    )
    asker = lab.python("5.7", [str(tmp_path / "asker.py")], source="client:a")
    asker.child.wait(30)
    ping, limited = asker.of("control", "ok")
    assert ping.attrs == {"command": "ping", "replies": {"a@lab": "{'ok': 'pong'}"}}
    assert "replies" not in limited.attrs


def test_digests_are_the_same_before_and_after_json() -> None:
    for value in (None, True, 3, 1.5, "text", [1, "two", None], (1, 2), {"b": 1, "a": [2, {"c": None}]}):
        assert digest(value) == digest(json.loads(json.dumps(value)))
    assert [digest(3), digest(None), digest(-1.5)] == ["3", "null", "-1.5"]
    assert len({digest(value) for value in ("3", 3, [3], "4", "", [], {}, 10**40)}) == 8
    assert len(digest("x" * 10_000)) == 8
    assert len({digest("x" * size + end) for size in (9_999, 10_000) for end in "xy"}) == 3 + 1
    assert digest(object)  # what JSON cannot say is told by its text
    loop: list[Any] = []
    loop.append(loop)
    assert len(digest(loop)) == 8
