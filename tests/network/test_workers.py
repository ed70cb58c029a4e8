"""Real workers of every Celery version through the proxy: nothing that they send is of unknown role, and held points
leave on the server what they leave when the recorder holds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import missing, server_needed
from recorder.lab import EACH_VERSION, Lab

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.gate import Gate
from pytest_celery_chaos.engine.pattern import Pattern
from pytest_celery_chaos.errors import StartFailed
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.ledger import Tail
from pytest_celery_chaos.history.wire import WIRE_POINTS
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.workers.runtime import python_for

from .conftest import Wired

TASKS = 20


class WiredLab(Lab):
    """Its workers and clients reach the server through the link ``a``."""

    proxy: Proxy
    ledgers: Path

    @property
    def addresses(self) -> dict[str, str]:
        port = self.proxy.port("a")
        return {"broker_url": f"redis://127.0.0.1:{port}/0", "result_backend": f"redis://127.0.0.1:{port}/1"}

    def counts(self) -> dict[str, int]:
        return dict(self.proxy.stats()["a"]["units"])


@pytest.fixture(scope="module")
def broker(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("broker")
    with server_needed():
        made = LocalServer(BrokerSpec(server="redis"), keeper, folder / "data", folder / "log")
    made.start()
    yield made
    made.close()


@pytest.fixture
def lab(keeper: Keeper, broker: LocalServer, tmp_path: Path) -> Iterator[WiredLab]:
    broker.client(0).flushall()
    control, ledgers = keeper.temp_folder(), tmp_path / "links"
    ledgers.mkdir()
    made = WiredLab(keeper, broker, tmp_path, control, Gate(control, lambda *_, **__: None))  # type: ignore[arg-type]
    with Proxy(keeper, tmp_path, ledgers, control=control) as proxy:
        made.proxy, made.ledgers = proxy, ledgers
        proxy.link("a", str(broker.socket_path))
        yield made
        made.close()
        made.gate.close()
        assert proxy.log.read_text() == ""


def python(version: str) -> None:
    try:
        python_for(version)
    except StartFailed as error:
        missing(str(error))


@pytest.mark.parametrize("version", EACH_VERSION)
def test_no_command_is_of_unknown_role_and_a_task_costs_what_it_costs(lab: WiredLab, version: str) -> None:
    python(version)
    worker, app = lab.worker(version, "solo", options=()), lab.client()
    first = app.send_task("add", (1, 1))
    assert first.get(timeout=20) == 2
    worker.until("ack", "ok", first.id)
    before, begun = lab.counts(), time.monotonic()
    ids = [app.send_task("add", (1, 1), ignore_result=False).id for _ in range(TASKS)]
    for task in ids:
        worker.until("ack", "ok", task, timeout=30)
    after, seconds = lab.counts(), time.monotonic() - begun
    spent = {role: after.get(role, 0) - before.get(role, 0) for role in after}
    assert {role: spent[role] for role in ("publish", "record", "ack", "store")} == {
        "publish": TASKS, "record": TASKS, "ack": TASKS, "store": TASKS,
    }  # fmt: skip
    # A BRPOP ends after a second without a message, and is sent again.
    assert TASKS <= spent["pop"] <= TASKS + 3 + seconds
    assert spent["read_result"] >= TASKS
    assert spent.get("restore", 0) == 0
    _more(lab, app, worker)
    assert lab.proxy.stats()["a"]["unknown"] == {}
    assert lab.counts()["chord_part"] in (2, 3), "the first EVALSHA finds no script"
    assert lab.proxy.stats()["a"]["blind"] == 0


def _more(lab: WiredLab, app: Any, worker: Any) -> None:
    """What else workers and clients do: chords, groups, retries, rejects, remote control, purge, a warm end."""
    from celery import chord, group, signature

    add = app.signature("add", (1, 1))
    body = chord([add, add])(signature("collect", app=app))
    assert body.get(timeout=30) == [2, 2]
    saved = group([add, add]).apply_async()
    saved.save()
    assert app.GroupResult.restore(saved.id) is not None
    assert saved.get(timeout=30) == [2, 2]
    saved.forget()
    assert app.send_task("retry", kwargs={"times": 1}).get(timeout=30) == 1
    assert app.send_task("reject", kwargs={"requeue": True, "times": 1}).get(timeout=30)
    app.send_task("reject", kwargs={"requeue": False})
    app.control.revoke("nobody")
    assert app.control.inspect(timeout=2).ping()
    app.send_task("add", queue="elsewhere", priority=5)
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_purge("elsewhere")
        channel.queue_delete("elsewhere")
        assert channel.basic_get("elsewhere") is None
    worker.stop()
    assert {"handshake", "listen", "heartbeat", "event", "control", "reply"} <= lab.counts().keys()


HOLDS = [
    # Held there and killed: executions, messages in the queue, entries of `unacked`, results.
    ("pop", "after", 0, 0, 0, 0),
    ("record", "before", 0, 0, 0, 0),
    ("record", "after", 0, 0, 1, 0),
    ("store", "before", 1, 0, 1, 0),
    ("store", "after", 1, 0, 1, 1),
    ("ack", "before", 1, 0, 1, 1),
    ("ack", "after", 1, 0, 0, 1),
]


@pytest.mark.parametrize(("point", "side", "ran", "queued", "unacked", "stored"), HOLDS)
@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_held_at_a_point_on_the_wire_and_killed(
    lab: WiredLab, pool: str, point: str, side: str, ran: int, queued: int, unacked: int, stored: int
) -> None:
    python("5.7")
    # Late, so that store and acknowledgement come in this order on every pool.
    worker, app = lab.worker("5.7", pool, settings={"task_acks_late": True}), lab.client()
    kind, phase = WIRE_POINTS[point][side == "after"]
    killed, told = threading.Event(), list[Event]()

    def kill(_: Any, event: Event) -> None:
        told.append(event)
        lab.keeper.end(worker.child)  # all of it: a pool's process that still dies could still send
        killed.set()

    lab.gate.arm(Pattern(f"wire_{kind}", phase, "link:a", ids=("job-",)), kill)  # type: ignore[arg-type]
    app.send_task("add", (1, 1), task_id="job-1", ignore_result=False)
    assert killed.wait(30), worker.tail()
    wait.until(lambda: not lab.proxy.stats()["a"]["holding"], what="nothing to be held any more", timeout=5)
    keys = lab.keys()
    assert len(keys["queues"]["celery"]) == queued
    assert len(keys["unacked"]) == unacked
    assert len(keys["results"]) == stored
    assert len(worker.of("started")) == ran
    assert told[0].task == "job-1"
    with Tail(lab.ledgers) as tail:
        events = tail.read()
    assert [e.attrs["how"] for e in events if e.kind == "released"] == ["gone"]
    assert told[0] in events, "the event that the harness was told is the one in the ledger"


def test_a_held_ack_whose_worker_is_killed_leaves_one_entry(lab: WiredLab) -> None:
    python("5.7")
    worker, app = lab.worker("5.7", "solo", settings={"task_acks_late": True}), lab.client()
    rule = lab.proxy.arm("hold", role="ack")
    task = app.send_task("add", (1, 1), ignore_result=False)
    assert task.get(timeout=20) == 2
    rule.wait()
    worker.kill()
    wait.until(lambda: not lab.proxy.stats()["a"]["holding"], what="nothing to be held any more", timeout=5)
    assert list(lab.keys()["unacked"].values()) == [task.id]


def test_prefixes_and_renamed_keys_are_known_too(lab: WiredLab) -> None:
    from pytest_celery_chaos.brokers.roles import Naming

    python("5.7")
    options = {"global_keyprefix": "shop:", "unacked_key": "pending", "unacked_index_key": "pending_index"}
    settings = {
        "broker_transport_options": options,
        "result_backend_transport_options": {"global_keyprefix": "res"},
    }
    lab.proxy.rename("a", Naming.of(settings, ["celery"]))
    worker, app = lab.worker("5.7", "solo", settings=settings), lab.client()
    app.conf.update(settings)
    task = app.send_task("add", (1, 1), ignore_result=False)
    assert task.get(timeout=20) == 2
    worker.until("ack", "ok", task.id)
    assert lab.proxy.stats()["a"]["unknown"] == {}
    assert {role: lab.counts()[role] for role in ("record", "ack", "store")} == {"record": 1, "ack": 1, "store": 1}


def test_a_moment_of_the_recorders_does_not_hold_the_wire(wired: Wired, keeper: Keeper, tmp_path: Path) -> None:
    """Only what names the link is the link's: and where nobody listens at the gate, nothing waits."""
    control = keeper.temp_folder()
    gate = Gate(control, lambda *_, **__: None)  # type: ignore[arg-type]
    held = list[Event]()
    with Proxy(keeper, tmp_path, control=control) as proxy:
        import redis

        client = redis.Redis(port=proxy.link("b", str(wired.server.socket_path)), socket_timeout=5)
        gate.arm(Pattern("wire_publish", "invoke", "worker:a"), lambda _, event: held.append(event))
        gate.arm(Pattern("wire_publish", "invoke", None), lambda _, event: held.append(event))
        assert client.lpush("celery", "x") == 1
        assert not held
        gate.arm(Pattern("wire_publish", "invoke", "link:b"), lambda _, event: held.append(event))
        assert client.lpush("celery", "x") == 2
        assert [event.source for event in held] == ["link:b"]
        gate.arm(Pattern("wire_publish", "invoke", "link:b"), lambda _, event: held.append(event))
        (control / "gate.sock").unlink()
        assert client.lpush("celery", "x") == 3
    gate.close()
