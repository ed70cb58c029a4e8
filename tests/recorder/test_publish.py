"""What is certain about a publish, in clients, in workers and in the test process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system import ports
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import in_process

from .lab import EACH_VERSION, Lab, Process, in_order, life, read, step

BOTH_ENDS = ("5.3", "5.7")
SEND = """
from celery_chaos_tasks import app
try:
    app.send_task("add", (1, 2), task_id="job", **{options})
except Exception as error:
    print(type(error).__name__, flush=True)
"""


def publish(
    lab: Lab, version: str, *, settings: dict[str, Any] | None = None, **options: Any
) -> tuple[Process, list[Event]]:
    """Let a client publish once; its process when it has ended, and its `publish` events."""
    code = SEND.replace("{options}", repr({"retry": False, **options}))
    client = lab.python(version, ["-c", code], source="client:c", settings=settings)
    client.child.wait(30)
    return client, [event for event in client.of("publish") if event.task == "job"]


@pytest.mark.parametrize("version", EACH_VERSION)
def test_ok_when_the_server_has_answered(lab: Lab, version: str) -> None:
    _, (invoke, ok) = publish(lab, version, countdown=60, expires=120, queue="orders")
    assert (invoke.phase, ok.phase) == ("invoke", "ok")
    assert invoke.source == "client:c"
    for event in (invoke, ok):
        assert event.attrs["name"] == "add"
        assert event.attrs["queue"] == "orders"
        assert event.attrs["eta"]
        assert event.attrs["expires"]
        assert event.attrs["retries"] == 0
    assert lab.server.client(0).llen("orders") == 1


@pytest.mark.parametrize(("version", "retry"), [pytest.param("5.3", False, marks=pytest.mark.soak), ("5.7", True)])
def test_fail_when_every_connection_was_refused(lab: Lab, version: str, retry: bool) -> None:
    port = ports.free_port()
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0.01}
    _, (_, end) = publish(
        lab, version, settings={"broker_url": f"redis://127.0.0.1:{port}/0"}, retry=retry, retry_policy=policy
    )
    assert end.phase == "fail"
    assert "OperationalError" in end.attrs["error"]


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_fail_when_the_server_has_refused_the_message(lab: Lab, version: str) -> None:
    admin = lab.server.client(0)
    admin.config_set("maxmemory-policy", "noeviction")
    publish(lab, version)  # so that only the push, not the declaration, is refused
    admin.config_set("maxmemory", "1")
    try:
        _, (_, end) = publish(lab, version)
    finally:
        admin.config_set("maxmemory", "0")
    assert end.phase == "fail"
    assert "OOM" in end.attrs["error"] or "maxmemory" in end.attrs["error"]


def test_fail_when_the_message_cannot_be_encoded(lab: Lab) -> None:
    _, (_, end) = publish(lab, "5.7", headers={"odd": b"\xff\xfe" * 3}, serializer="no-such-serializer")
    assert end.phase == "fail"


@pytest.fixture
def frozen(lab: Lab, tmp_path: Path) -> Iterator[LocalServer]:
    """A server of its own, to be frozen and killed."""
    server = LocalServer(
        BrokerSpec("own", server=lab.server.server), lab.keeper, tmp_path / "own", tmp_path / "own.log"
    )
    server.start()
    yield server
    if server.alive:
        server.child.signal(signal.SIGCONT)  # type: ignore[union-attr]
    server.close()


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_unknown_when_the_answer_never_came(lab: Lab, version: str, frozen: LocalServer) -> None:
    """The push has gone into the socket of a frozen server."""
    options = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}
    code = SEND.replace("{options}", repr({"retry": False})).replace(
        "try:",
        "app.send_task('add', task_id='first')\n"  # the connection stands, the queue is declared
        "open('first', 'w').close()\n"
        "import os, time\n"
        "while not os.path.exists('frozen'): time.sleep(0.01)\n"
        "try:",
        1,
    )
    settings = {"broker_url": frozen.url(0), "broker_transport_options": options}
    client = lab.python(version, ["-c", code], source="client:c", settings=settings)
    client.until("publish", "ok", "first")
    frozen.pause()
    (client.folder / "frozen").touch()
    client.child.wait(30)
    end = client.of("publish", task="job")[-1]
    assert end.phase == "unknown"
    assert end.attrs["doubtful"] >= 1
    frozen.resume()


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_a_publish_that_nobody_takes_says_so(lab: Lab, version: str) -> None:
    """A topic exchange without a binding drops the message, and Celery does not notice."""
    _, (_, end) = publish(lab, version, exchange="nowhere", exchange_type="topic", routing_key="a.b", declare=[])
    assert end.phase == "ok"
    assert end.attrs["unrouted"] is True


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_results_and_remote_control_of_a_client(lab: Lab, version: str) -> None:
    worker = lab.worker(version, "solo")
    code = (
        "import faulthandler; faulthandler.dump_traceback_later(15, exit=True)\n"
        "from celery_chaos_tasks import app, add, fail\n"
        "try: app.AsyncResult('never').get(timeout=0.1)\nexcept Exception: pass\n"
        "r = app.send_task('add', (1, 2), task_id='good'); r.get(timeout=10)\n"
        "r = app.send_task('fail', task_id='bad')\n"
        "try: r.get(timeout=10)\nexcept RuntimeError: pass\n"
        "app.control.revoke(['x', 'y'])\n"
        "print(app.control.ping(timeout=0.5))\n"
    )
    client = lab.python(version, ["-c", code], source="client:c")
    assert client.child.wait(20).code == 0, client.tail()
    gets = {event.task: event for event in client.of("get") if event.phase != "invoke"}
    assert (gets["good"].phase, gets["good"].attrs["state"]) == ("ok", "SUCCESS")
    assert (gets["bad"].phase, gets["bad"].attrs["state"]) == ("ok", "FAILURE")
    assert (gets["never"].phase, gets["never"].attrs["error"].partition(":")[0]) == ("fail", "TimeoutError")
    revoke, ping = (event for event in client.of("control", "ok"))
    assert (revoke.attrs["command"], revoke.attrs["ids"]) == ("revoke", ["x", "y"])
    assert (ping.attrs["command"], ping.attrs["replies"]) == ("ping", {"a@lab": "{'ok': 'pong'}"})
    worker.kill()


class Here:
    """The recorder in this process, on an application that may have published before."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        folder.mkdir()
        self.folder, self.lab = folder, lab

    def publishes(self) -> list[str]:
        return [f"{event.task} {step(event)}" for event in read(self.folder) if event.kind == "publish"]


@pytest.fixture
def here(lab: Lab, tmp_path: Path) -> Iterator[Here]:
    yield Here(tmp_path / "here", lab)
    in_process.uninstall()


def test_the_test_process_is_recorded_between_install_and_uninstall(lab: Lab, here: Here) -> None:
    app = lab.client()
    app.send_task("add", task_id="before")
    cached = vars(app.amqp)["send_task_message"]
    in_process.install(str(here.folder), "client:test", str(lab.control))
    app.send_task("add", task_id="during")
    other = lab.client()
    other.send_task("add", task_id="other")
    in_process.uninstall()
    app.send_task("add", task_id="after")
    other.send_task("add", task_id="after-too")
    assert here.publishes() == [
        "during publish:invoke", "during publish:ok", "other publish:invoke", "other publish:ok",
    ]  # fmt: skip
    assert vars(app.amqp)["send_task_message"] is cached
    assert lab.server.client(0).llen("celery") == 5


def test_uninstall_leaves_no_trace(lab: Lab, here: Here) -> None:
    import sys

    import celery.app.amqp
    import celery.app.control
    import celery.app.utils
    import celery.result
    import kombu.transport.redis
    import redis.connection

    places = [
        (celery.app.amqp.AMQP, "_create_task_sender"),
        (celery.app.control.Control, "broadcast"),
        (celery.app.utils.Settings, "broker_url"),
        (celery.result.AsyncResult, "get"),
        (kombu.transport.redis.Channel, "_put"),
        (kombu.transport.redis.Channel, "_put_fanout"),
        (redis.connection.AbstractConnection, "send_packed_command"),
    ]
    before = [(owner.__dict__.get(name)) for owner, name in places]
    finders, own = list(sys.meta_path), "__getitem__" in vars(celery.app.utils.Settings)
    in_process.install(str(here.folder), "client:test")
    assert [owner.__dict__.get(name) for owner, name in places] != before
    with pytest.raises(RuntimeError):
        in_process.install(str(here.folder), "client:test")
    in_process.uninstall()
    in_process.uninstall()
    assert [owner.__dict__.get(name) for owner, name in places] == before
    assert list(sys.meta_path) == finders
    assert ("__getitem__" in vars(celery.app.utils.Settings)) is own


def test_a_publish_of_the_test_process_can_be_held(lab: Lab, here: Here) -> None:
    import threading

    from pytest_celery_chaos.engine.pattern import Pattern

    from .test_moments import hold

    in_process.install(str(here.folder), "client:test", str(lab.control))
    reached, _, armed = hold(lab, Pattern("publish", "invoke", ids=["job"]))
    app = lab.client()
    thread = threading.Thread(target=lambda: app.send_task("add", task_id="job"))
    thread.start()
    assert reached.wait(10)
    assert lab.server.client(0).llen("celery") == 0
    lab.disarm(armed)
    thread.join(10)
    assert lab.server.client(0).llen("celery") == 1
    assert in_order(life(read(here.folder), "job"), "publish:invoke", "released", "publish:ok")


@pytest.mark.parametrize("version", EACH_VERSION)
def test_a_call_is_told_as_its_caller_sees_it_also_where_nothing_is_published(lab: Lab, version: str) -> None:
    client, _ = publish(lab, version)
    assert [(event.phase, event.task) for event in client.of("send")] == [("invoke", "job"), ("ok", "job")]
    assert {event.attrs["name"] for event in client.of("send")} == {"add"}
    port = ports.free_port()
    # What `delay()` asks of the result backend comes before its publish.
    settings = {
        "result_backend": f"redis://127.0.0.1:{port}/0",
        "result_backend_transport_options": {"retry_policy": {"max_retries": 1, "interval_start": 0}},
    }
    client, publishes = publish(lab, version, settings=settings)
    ports.release_port(port)
    assert publishes == []
    assert [event.phase for event in client.of("send")] == ["invoke", "fail"]
