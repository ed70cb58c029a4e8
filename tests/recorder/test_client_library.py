"""The same is recorded of processes on valkey-py: its transport and backend derive from what the recorder changes."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chord
from extras import need_valkey

from pytest_celery_chaos.system import ports

from .lab import EACH_VERSION, Lab, Process, life
from .test_life import no_hook_failed
from .test_publish import publish

#: valkey:// is made for Celery from 5.5 on.
VERSIONS = [each for each in EACH_VERSION if str(getattr(each, "values", [each])[0]) >= "5.5"]


@pytest.fixture(autouse=True)
def valkey_py() -> None:
    need_valkey()


def by(library: str, addresses: dict[str, str]) -> dict[str, Any]:
    return {name: url.replace("redis://", f"{library}://") for name, url in addresses.items()}


def recorded(lab: Lab, version: str, pool: str, library: str) -> tuple[Process, dict[str, list[str]]]:
    """What a worker on that library records of some tasks, by task."""
    lab.server.client(0).flushall()
    settings = {**by(library, lab.addresses), "task_acks_late": True}
    worker = lab.worker(version, pool, name=library, settings=settings)
    client, ended = lab.client(), ("add", "fail", "retry")
    for name in ended:
        client.send_task(name, task_id=name)
    client.send_task("reject", kwargs={"requeue": False}, task_id="reject")
    for name in ended:
        worker.until("ack", "ok", name, n=2 if name == "retry" else 1)
    worker.until("reject", "ok", "reject")
    add, echo = (client.signature(name) for name in ("add", "echo"))
    chord([add.clone((n, n)) for n in range(3)], echo).delay()
    # Celery 5.6 may hang when it is told to stop while a task runs, on either library.
    worker.until("ack", "ok", worker.until("chord").task)
    worker.stop()
    found = {task: life(worker.events, task) for task in (*ended, "reject")}
    found["retry"].sort()  # one process publishes what another one pops at once
    found["chord"] = [each.phase or "" for each in worker.of("chord_part")] + [
        str(worker.of("chord")[0].attrs["count"])
    ]
    return worker, found


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_records_the_same_steps_with_both(lab: Lab, version: str, pool: str) -> None:
    (_, expected), (worker, found) = (recorded(lab, version, pool, library) for library in ("redis", "valkey"))
    assert found == expected
    no_hook_failed(worker)
    (ready,) = worker.of("ready")
    assert ready.attrs["settings"]["broker_url"].startswith("valkey://")
    assert ready.attrs["settings"]["result_backend"].startswith("valkey://")
    assert all(ready.attrs["overlay"].values()), ready.attrs["overlay"]
    assert worker.of("hello")[0].attrs["versions"]["valkey"]


def test_a_unix_socket_is_in_force_as_it_was_asked_for(lab: Lab) -> None:
    path = lab.server.socket_path
    settings = {
        "broker_url": f"valkey+socket://{path}?virtual_host=0",
        "result_backend": f"valkey+socket://{path}?virtual_host=1",
    }
    worker = lab.worker("5.7", "solo", settings=settings)
    (ready,) = worker.of("ready")
    assert all(ready.attrs["overlay"].values()), ready.attrs["overlay"]


def test_a_publish_to_nobody_certainly_failed(lab: Lab) -> None:
    settings = {"broker_url": f"valkey://127.0.0.1:{ports.free_port()}/0"}
    _, (_, end) = publish(lab, "5.7", settings=settings)
    assert end.phase == "fail"


def test_a_publish_that_the_server_refuses_certainly_failed(lab: Lab) -> None:
    admin, settings = lab.server.client(0), by("valkey", lab.addresses)
    admin.config_set("maxmemory-policy", "noeviction")
    _, (_, end) = publish(lab, "5.7", settings=settings)
    assert end.phase == "ok"
    admin.config_set("maxmemory", "1")
    try:
        _, (_, end) = publish(lab, "5.7", settings=settings)
    finally:
        admin.config_set("maxmemory", "0")
    assert (end.phase, "OOM" in end.attrs["error"] or "maxmemory" in end.attrs["error"]) == ("fail", True)


def test_where_it_cannot_be_made_known_the_process_ends_with_the_reason(lab: Lab) -> None:
    process = lab.python(
        "5.4", ["-m", "celery", "-A", "celery_chaos_tasks:app", "report"], source="client:old",
        settings=by("valkey", lab.addresses),
    )  # fmt: skip
    process.child.wait(30)
    assert "celery-chaos: valkey:// is made for kombu 5.5 to below 5.8, and 5.4 is installed" in process.log.read_text()
