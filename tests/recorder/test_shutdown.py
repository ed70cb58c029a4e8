"""A worker ends as it would without the recorder, and the ledger tells how."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pytest_celery_chaos.brokers import keys
from pytest_celery_chaos.errors import WaitExpired
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.workers.runtime import python_for

from .lab import FAST, POOLS, VERSIONS, Lab, Process, in_order, life, step

APP = """
import os, pathlib, time
from celery import Celery
app = Celery("proj", broker=os.environ["THE_BROKER"], backend=os.environ["THE_BACKEND"])
app.conf.task_acks_late = True
app.conf.broker_connection_retry_on_startup = True
mark, go = (pathlib.Path(os.environ[name]) for name in ("THE_MARK", "THE_GO"))
@app.task
def work():
    mark.touch()
    end = time.monotonic() + 30
    while not go.exists() and time.monotonic() < end:
        time.sleep(0.05)
"""
SIGNALS = {"TERM": signal.SIGTERM, "QUIT": signal.SIGQUIT}


class Subject:
    """One worker with late tasks, of which the first runs until it is let go; on databases of its own."""

    def __init__(self, lab: Lab, version: str, pool: str, recorded: bool, folder: Path) -> None:
        folder.mkdir()
        (folder / "proj.py").write_text(APP)
        self.lab, self.pool, self.mark, self.go = lab, pool, folder / "mark", folder / "go"
        first = 2 if recorded else 4
        self.databases = first, first + 1
        broker, backend = (lab.server.url(database) for database in self.databases)
        self.app = Celery(broker=broker, set_as_current=False)
        self.worker = lab.worker(
            version, pool, app="proj", path=folder, recorded=recorded, ready=False,
            env={"THE_BROKER": broker, "THE_BACKEND": backend, "THE_MARK": str(self.mark),
                 "THE_GO": str(self.go)},
            settings={"broker_url": broker, "result_backend": backend}, options=FAST,
        )  # fmt: skip

    def send(self, tasks: Sequence[str]) -> None:
        for task in tasks:
            self.app.send_task("proj.work", task_id=task)

    def until_running(self, taken: int) -> None:
        """Until the first task runs, and *taken* messages lie in `unacked`: later ones are the worker's to race for."""
        wait.until(self.mark.exists, what="the first task to run", timeout=20, last=self.worker.tail)
        client = self.lab.server.client(self.databases[0])
        wait.until(lambda: client.hlen("unacked") == taken, what=f"{taken} messages in unacked", timeout=20)
        if self.pool == "prefork":
            # The child runs before its parent has read that it does: until then, a cold end lets the task finish.
            wait.until(self._active, what="the worker to say that the first task is active", timeout=20)

    def _active(self) -> bool:
        replies = self.app.control.inspect(limit=1, timeout=1).active() or {}
        return any(request["id"] == "first" for active in replies.values() for request in active)

    def outcome(self, timeout: float) -> dict[str, Any]:
        """Exit code, what is left at the broker and what stands in the backend."""
        try:
            end = self.worker.child.wait(timeout)
            code: int | str | None = end.code if end.signal is None else -end.signal
        except WaitExpired:
            code = "still there"
            self.worker.kill()
        broker, backend = (self.lab.server.client(each) for each in self.databases)
        found = keys.snapshot(broker, backend, ["celery"])
        return {
            "exit": code,
            "queue": sorted(found["queues"]["celery"]),
            "unacked": sorted(found["unacked"].values()),
            "index": len(found["index"]),
            "results": found["results"],
        }


def compare(lab: Lab, version: str, pool: str, name: str, tmp_path: Path) -> Process:
    subjects = [Subject(lab, version, pool, recorded, tmp_path / str(recorded)) for recorded in (True, False)]
    # Threads: the end of the first task wakes the stop and the second one at once, and either may win.
    tasks = ("first",) if pool == "threads" else ("first", "second")
    for subject in subjects:
        subject.send(tasks)
        subject.until_running(1 if pool == "solo" else len(tasks))
        subject.worker.child.signal(SIGNALS[name])
        if (pool, name) != ("prefork", "QUIT"):  # there the first task is cancelled, and must not end before it
            subject.go.touch()
    with_us, without_us = (subject.outcome(timeout=12) for subject in subjects)
    assert with_us == without_us
    worker = subjects[0].worker
    assert worker.of("signal")[0].attrs["signal"] == f"SIG{name}"
    if with_us["exit"] != "still there":
        assert not [event for event in worker.events if event.kind.startswith("hook_")]
    return worker


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("pool", POOLS)
def test_the_recorder_changes_nothing_about_the_end(lab: Lab, pool: str, name: str, tmp_path: Path) -> None:
    worker = compare(lab, "5.7", pool, name, tmp_path)
    steps = [step(event) for event in worker.events]
    assert in_order(steps, "signal", "shutdown:invoke", "shutdown:ok")
    # On threads Celery's own handler fails (its pool cannot cancel), and the worker ends warm with exit code 1.
    assert worker.of("shutdown", "ok")[0].attrs["how"] == ("cold" if name == "QUIT" and pool != "threads" else "warm")
    if name == "QUIT":
        assert in_order(steps, "signal", "soft_wait:invoke", "soft_wait:ok", "cancelled")
    if pool == "prefork" and name == "TERM":
        (child,) = {event.pid for event in worker.of("child_up")} & {event.pid for event in worker.of("started")}
        assert child in {event.attrs["child"] for event in worker.of("child_down")}


@pytest.mark.soak
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_the_recorder_changes_nothing_about_the_end_on_older_versions(
    lab: Lab, version: str, pool: str, name: str, tmp_path: Path
) -> None:
    compare(lab, version, pool, name, tmp_path)


def test_a_soft_shutdown_is_seen_as_it_begins_not_when_it_is_over(lab: Lab) -> None:
    worker = lab.worker(
        "5.7", "prefork", settings={"worker_soft_shutdown_timeout": 1.0, "task_acks_late": True},
        env={"REMAP_SIGTERM": "SIGQUIT"},
    )  # fmt: skip
    assert worker.until("ready").attrs["settings"]["worker_soft_shutdown_timeout"] == 1.0
    lab.client().send_task("sleep", (30,), task_id="long")
    worker.until("started", None, "long")
    end = worker.stop()
    assert end.code == 0
    arrived, waited = worker.of("signal")[0], worker.of("soft_wait")
    assert (arrived.attrs["signal"], arrived.attrs["handler"]) == ("SIGTERM", "worker_Cold")
    assert waited[0].t - arrived.t < 200_000_000
    assert waited[1].t - waited[0].t > 950_000_000
    assert in_order([step(event) for event in worker.events], "soft_wait:ok", "cancelled", "shutdown:invoke")
    assert in_order(life(worker.events, "long"), "started", "restore:invoke", "restore:ok")
    assert lab.keys()["queues"]["celery"] == ["long"]


def test_hup_starts_the_same_command_line_again_with_the_recorder_inside(lab: Lab) -> None:
    # Celery restarts `python argv`, which for `python -m celery` cannot be run: it has to be the script.
    worker = lab.worker("5.7", "solo", celery=[str(python_for("5.7").with_name("celery"))])
    worker.child.signal(signal.SIGHUP)
    worker.until("ready", n=2)
    first, second = worker.of("hello")
    assert first.pid == second.pid == worker.child.pid
    assert first.attrs["role"] == second.attrs["role"] == "main"
    assert worker.of("signal")[0].attrs["handler"] == "restart_worker_sig_handler"
    assert len(list(worker.folder.glob("*.ndjson"))) == 2
    lab.client().send_task("add", task_id="again")
    worker.until("succeeded", None, "again")


@pytest.mark.parametrize("version", [pytest.param("5.3", marks=pytest.mark.soak), "5.7"])
def test_each_child_of_a_recycled_pool_has_a_ledger(lab: Lab, version: str) -> None:
    worker = lab.worker(version, "prefork", options=[*FAST, "--max-tasks-per-child", "1"])
    for number in range(2):
        lab.client().send_task("add", task_id=f"job-{number}")
        worker.until("succeeded", None, f"job-{number}")
    worker.until("child_down")
    pids = [event.pid for event in worker.of("started")]
    assert len(set(pids)) == 2
    for pid in pids:
        mine = [event for event in worker.events if event.pid == pid]
        assert [event.kind for event in mine[:2]] == ["hello", "child_up"]
        assert [event.n for event in mine] == list(range(len(mine)))
    assert {event.attrs["exitcode"] for event in worker.of("child_down")} == {155}  # billiard's EX_RECYCLE


def test_a_python_that_a_task_starts_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(
        "import subprocess, sys\nfrom celery import Celery\napp = Celery('proj')\n"
        "@app.task\ndef out():\n    subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\n"
    )
    worker = lab.worker("5.7", "prefork", app="proj", path=tmp_path)
    before = len(list(worker.folder.glob("*.ndjson")))
    lab.client().send_task("proj.out", task_id="out")
    worker.until("succeeded", None, "out")
    assert len(list(worker.folder.glob("*.ndjson"))) == before


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_no_event_is_lost_when_real_workers_are_killed(lab: Lab, pool: str) -> None:
    """Whole groups killed at any moment: each ledger has all its numbers, and every execution its event."""
    for round_ in range(3):
        count = lab.folder / f"count-{pool}-{round_}"
        worker = lab.worker("5.7", pool, env={"CELERY_CHAOS_COUNTER": str(count)}, concurrency=2)
        app = lab.client()
        for number in range(30):
            app.send_task("count", task_id=f"{round_}-{number}")
        worker.until("started", n=5 + 7 * round_)
        worker.kill()
        executed = {line.split()[0] for line in count.read_text().splitlines()}
        assert executed <= {event.task for event in worker.of("started")}
        by_process: dict[int, list[int]] = {}
        for event in worker.events:
            by_process.setdefault(event.pid, []).append(event.n)
        assert all(numbers == list(range(len(numbers))) for numbers in by_process.values())
        lab.server.client(0).flushall()
