"""The whole life of a task, event by event, on every Celery version and pool."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pytest_celery_chaos.system import ports, wait

from .lab import BETWEEN, POOLS, SOAK, VERSIONS, Lab, Process, in_order, life, step

# Every combination: a hook that is missing on one of them would be missed otherwise.
EVERYWHERE = [
    pytest.param(version, pool, marks=SOAK if version in BETWEEN else ()) for version in VERSIONS for pool in POOLS
]

DELIVERY = ["popped", "received"]
STORE = ["store:invoke", "store:ok"]
ACK = ["ack:invoke", "ack:ok"]
LATE = {"task_acks_late": True}
MINGLE = [("control", "invoke"), ("control", "ok"), ("consuming", None)]


def send(lab: Lab, name: str, task: str, *args: Any, **options: Any) -> str:
    lab.client().send_task(name, args, task_id=task, **options)
    return task


def no_hook_failed(worker: Process) -> None:
    assert not [event for event in worker.events if event.kind.startswith("hook_")]


def pids(worker: Process, task: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for event in worker.events:
        if event.task == task:
            found.setdefault(step(event), set()).add(event.pid)
    return found


@pytest.mark.parametrize(("version", "pool"), EVERYWHERE)
def test_the_life_of_tasks_is_recorded_step_by_step(lab: Lab, version: str, pool: str) -> None:
    worker = lab.worker(version, pool, settings=LATE)
    done, failed = send(lab, "add", "late-ok", 1, 2), send(lab, "fail", "late-failed")
    ignored = send(lab, "add", "late-ignored", ignore_result=True)
    expired = send(lab, "add", "expired", expires=-1)
    lab.client().control.revoke("revoked", reply=False)
    assert worker.until("revoke", "ok").attrs["ids"] == ["revoked"]
    revoked = send(lab, "add", "revoked")
    for task in (done, failed, ignored, expired, revoked):
        worker.until("ack", "ok", task)

    assert life(worker.events, done) == [*DELIVERY, "started", "returned", *STORE, "succeeded", "settled", *ACK]
    popped, received, started = (worker.of(kind, None, done)[0] for kind in ("popped", "received", "started"))
    for event in (popped, received, started):
        assert event.attrs["name"] == "add"
        assert event.attrs["redelivered"] is False
        assert event.attrs["retries"] == 0
    assert popped.attrs["tag"] == received.attrs["tag"] == started.attrs["tag"]

    assert life(worker.events, failed) == [*DELIVERY, "started", "raised", *STORE, "failed", "settled", *ACK]
    assert worker.of("failed", None, failed)[0].attrs["error"] == "RuntimeError"

    assert life(worker.events, ignored) == [*DELIVERY, "started", "returned", "succeeded", "settled", *ACK]

    assert life(worker.events, expired) == [*DELIVERY, "revoked", "settled", *STORE, *ACK]
    assert worker.of("revoked", None, expired)[0].attrs["reason"] == "expired"

    assert life(worker.events, revoked)[-8:] == [*DELIVERY, "revoked", "settled", *STORE, *ACK]
    assert worker.of("revoked", None, revoked)[0].attrs["reason"] == "revoked"

    main = {worker.child.pid}
    where = pids(worker, done)
    assert where["popped"] == where["ack:ok"] == where["settled"] == main
    assert where["accepted"] == main
    assert len(worker.of("accepted", None, done)) == 1
    assert "accepted" not in pids(worker, expired) | pids(worker, revoked)
    assert (where["started"] == main) is (pool != "prefork")
    assert where["started"] == where["returned"] == where["succeeded"] == where["store:ok"]
    no_hook_failed(worker)


@pytest.mark.parametrize(
    ("version", "pool"),
    [each if each.values[0] in ("5.3", "5.7") else pytest.param(*each.values, marks=SOAK) for each in EVERYWHERE],
)
def test_a_retry_is_published_by_the_worker_under_its_own_id(lab: Lab, version: str, pool: str) -> None:
    worker = lab.worker(version, pool, settings=LATE)
    task = send(lab, "retry", "again", 1)
    worker.until("ack", "ok", task, n=2)
    worker.until("succeeded", None, task)
    steps = life(worker.events, task)
    assert in_order(steps, *DELIVERY, "started", "publish:invoke", "publish:ok", "raised", *STORE, "retried", "settled")
    assert in_order(steps, "retried", "started", "returned", *STORE, "succeeded", "settled")
    assert [event.attrs["retries"] for event in worker.of("started", None, task)] == [0, 1]
    publish = worker.of("publish", "ok", task)[0]
    assert publish.attrs["retries"] == 1
    assert publish.pid == worker.of("started", None, task)[0].pid
    assert worker.of("retried", None, task)[0].attrs["countdown"] == 0
    no_hook_failed(worker)


@pytest.mark.parametrize("version", ["5.3", "5.7"])
@pytest.mark.parametrize("pool", POOLS)
def test_an_early_acknowledgement(lab: Lab, version: str, pool: str) -> None:
    worker = lab.worker(version, pool)
    task = send(lab, "add", "early")
    worker.until("settled", None, task)
    worker.until("ack", "ok", task)
    steps = life(worker.events, task)
    assert steps.count("ack:ok") == 1
    assert in_order(steps, *DELIVERY, "started", "returned", *STORE, "succeeded", "settled")
    assert in_order(steps, "received", *ACK)


@pytest.mark.parametrize("pool", POOLS)
def test_started_is_written_before_the_body_and_not_again_for_calls_inside(lab: Lab, pool: str, tmp_path: Any) -> None:
    (tmp_path / "proj.py").write_text(
        "import os\nfrom celery import Celery, Task, chain\napp = Celery('proj')\n"
        "class Own(Task):\n"
        "    def __call__(self, *args, **kwargs):\n"
        "        os.open(os.environ['MARK'] + '-call', os.O_CREAT)\n"
        "        return super().__call__(*args, **kwargs)\n"
        "@app.task(base=Own, bind=True)\n"
        "def own(self, n):\n    return n and own(n - 1)\n"
        "class Based(Own):\n    name = 'based'\n    def run(self):\n        return [own(1), self.request.id]\n"
        "app.register_task(Based())\n"
        "@app.task\ndef link(x=0):\n    return x + 1\n"
        "@app.task(bind=True)\ndef chained(self):\n    (link.s().set(task_id='l1') | link.s().set(task_id='l2'))()\n"
        "@app.task\ndef leave():\n    raise SystemExit(3)\n"
    )
    worker = lab.worker(
        "5.7", pool, app="proj", path=tmp_path, env={"MARK": str(tmp_path / "mark")}, settings=LATE
    )  # fmt: skip
    for name, task in (("proj.own", "own"), ("based", "based"), ("proj.chained", "chained")):
        send(lab, name, task, *([3] if name == "proj.own" else []))
        worker.until("ack", "ok", task)
        assert life(worker.events, task).count("started") == 1
        assert life(worker.events, task).count("returned") == 1
    worker.until("succeeded", None, "l2")
    assert worker.of("publish", "ok", "l1"), "the chain was sent from inside the task"
    assert worker.of("publish", "ok", "l2"), "its second link from the worker, after the first"
    assert (tmp_path / "mark-call").exists(), "the user's own __call__ still runs"


def test_a_lost_child_a_time_limit_and_a_termination_are_told_by_the_main_process(lab: Lab) -> None:
    worker = lab.worker("5.7", "prefork", settings=LATE)
    main = worker.child.pid
    lost = send(lab, "kill_worker", "lost")
    worker.until("ack", "ok", lost)
    assert life(worker.events, lost) == [*DELIVERY, "started", "settled", *STORE, "failed", *ACK]
    failed = worker.of("failed", None, lost)[0]
    assert (failed.pid, failed.attrs["error"]) == (main, "WorkerLostError")
    down = worker.until("child_down")
    assert (down.attrs["child"], down.attrs["exitcode"]) == (worker.of("started", None, lost)[0].pid, -9)

    limited = send(lab, "sleep", "limited", 60, time_limit=0.3)
    worker.until("ack", "ok", limited)
    assert [event.attrs["error"] for event in worker.of("failed", None, limited)] == ["TimeLimitExceeded"]

    ended = send(lab, "sleep", "ended", 60)
    worker.until("started", None, ended)
    lab.client().control.revoke(ended, terminate=True, reply=False)
    worker.until("ack", "ok", ended)
    assert worker.of("revoked", None, ended)[0].attrs["reason"] == "terminated"
    assert worker.of("revoke", "ok")[0].attrs["terminate"] is True
    children = [event.attrs["child"] for event in worker.of("child_down")]
    assert len(children) == len(set(children))
    no_hook_failed(worker)


@pytest.mark.parametrize(("version", "pool"), [("5.3", "solo"), ("5.7", "prefork"), ("5.7", "threads")])
def test_a_message_comes_back_by_the_sweep_and_says_that_it_is_redelivered(lab: Lab, version: str, pool: str) -> None:
    options = {"broker_transport_options": {"visibility_timeout": 1}, **LATE}
    first = lab.worker(version, pool, settings=options)
    task = send(lab, "sleep", "back", 60)
    first.until("started", None, task)
    first.kill()
    index = lab.server.client(0, decode_responses=True)
    for tag in index.zrange("unacked_index", 0, -1):  # the visibility timeout passes without waiting
        index.zadd("unacked_index", {str(tag): 0})
    second = lab.worker(version, pool, name="b", settings=options)
    started = second.until("started", None, task)
    assert started.attrs["redelivered"] is True
    assert life(second.events, task)[:5] == ["restore:invoke", "restore:ok", "popped", "received", "started"]
    assert second.of("restore", "ok", task)[0].attrs["reason"] == "sweep"
    sweep = [step(event) for event in second.events if event.kind in ("sweep", "restore")]
    assert sweep[:4] == ["sweep:invoke", "restore:invoke", "restore:ok", "sweep:ok"]
    assert second.of("sweep", "ok")[0].attrs["restored"] == 1


def test_a_rejected_message_and_the_prefetched_ones_at_a_warm_end_go_back(lab: Lab, tmp_path: Any) -> None:
    (tmp_path / "proj.py").write_text(
        "from celery import Celery\nfrom celery.exceptions import Ignore, Reject\napp = Celery('proj')\n"
        "@app.task(bind=True)\ndef reject(self):\n"
        "    if not self.request.delivery_info.get('redelivered'):\n        raise Reject('no', requeue=True)\n"
        "@app.task\ndef ignore():\n    raise Ignore()\n"
    )
    worker = lab.worker("5.7", "solo", app="proj", path=tmp_path, settings=LATE)
    task = send(lab, "proj.reject", "rejected")
    worker.until("succeeded", None, task)
    steps = life(worker.events, task)
    assert in_order(steps, "raised", "reject:invoke", "restore:invoke", "restore:ok", "reject:ok", "popped", "started")
    assert worker.of("restore", "ok", task)[0].attrs["reason"] == "reject"
    assert worker.of("reject", "ok", task)[0].attrs["requeue"] is True

    ignored = send(lab, "proj.ignore", "ignored")
    worker.until("ack", "ok", ignored)
    assert life(worker.events, ignored) == [*DELIVERY, "started", "raised", "settled", *ACK]

    later = send(lab, "proj.ignore", "later", countdown=60)
    assert worker.until("received", None, later).attrs["eta"]
    worker.stop()
    assert in_order(life(worker.events, later), *DELIVERY, "restore:invoke", "restore:ok")
    assert worker.of("restore", "ok", later)[0].attrs["reason"] == "shutdown"


def test_mingle_and_the_loss_of_the_connection(lab: Lab) -> None:
    first = lab.worker("5.7", "solo", options=())
    lab.client().control.revoke(["r-1", "r-2"], reply=False)
    first.until("revoke", "ok")
    second = lab.worker("5.7", "solo", name="b", options=())
    taken = [event for event in second.of("revoke", "ok") if event.attrs["method"] == "mingle"]
    assert [sorted(event.attrs["ids"]) for event in taken] == [["r-1", "r-2"]]
    address = first.until("consuming").attrs["address"]
    lab.server.client(0).client_kill(address)
    assert first.until("connection_lost").attrs["before"] is False
    first.until("connection_back")
    assert first.until("consuming", n=2).attrs["address"] != address
    assert len(first.of("ready")) == 1


def test_a_worker_that_waits_for_the_replies_of_mingle_does_not_yet_wait_for_messages(lab: Lab) -> None:
    lab.worker("5.7", "solo", options=())
    second = lab.worker("5.7", "solo", name="b", options=())
    second.until("consuming")
    kinds = [event.kind for event in second.events if (event.kind, event.phase) in MINGLE]
    assert kinds == ["control", "control", "consuming"]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_connection_that_kombu_gives_up_is_told(lab: Lab, pool: str) -> None:
    worker = lab.worker("5.7", pool, settings={"broker_transport_options": {"health_check_interval": 1}})
    consuming = worker.until("consuming")
    # A second after it has connected kombu sweeps tables of bindings, and would wait for the answer to that.
    wait.until(lambda: time.monotonic_ns() > consuming.t + 1_800_000_000, what="that sweep to be over", timeout=5)
    lab.server.client(0).client_pause(5_000)
    worker.until("consuming", n=2)  # when the server answers again, and so on a connection that is new
    assert "normal" in [event.attrs["type"] for event in worker.of("connection_dropped")]
    no_hook_failed(worker)


def test_each_failed_attempt_to_connect_is_told(lab: Lab) -> None:
    nowhere = f"redis://127.0.0.1:{ports.free_port()}/0"
    worker = lab.worker("5.7", "solo", settings={"broker_url": nowhere}, ready=False)
    assert worker.until("connection_lost", n=2).attrs["before"] is True
    assert not worker.of("ready")
