"""The key layout, against what kombu and Celery themselves write."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue

from pytest_celery_chaos.brokers import keys
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.system import wait

from .conftest import Launch

ORDERS = Queue("orders", Exchange("orders"), routing_key="orders")
OTHER = Queue("other", Exchange("other"), routing_key="other")


@pytest.fixture
def server(make_any: Launch) -> LocalServer:
    server = make_any()
    server.start()
    return server


@pytest.fixture(params=["", "mine:", "od*d[1]"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connection(server: LocalServer, prefix: str) -> Iterator[Connection]:
    with Connection(server.url(0), transport_options={"global_keyprefix": prefix}) as connection:
        yield connection


def publish(connection: Connection, queue: Queue, task: str, **options: Any) -> None:
    producer = Producer(connection)
    producer.publish(
        [[], {}, {}],
        exchange=queue.exchange,
        routing_key=queue.routing_key,
        declare=[queue],
        headers={"id": task, "task": "a.task"},
        **options,
    )


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
def test_waiting_messages_are_listed_in_the_order_in_which_kombu_delivers_them(
    server: LocalServer, connection: Connection, prefix: str, decode: bool
) -> None:
    for task, priority in (("late", 9), ("first", 0), ("second", 0), ("middle", 3), ("between", 4)):
        publish(connection, ORDERS, task, priority=priority)
    publish(connection, OTHER, "elsewhere")
    client = server.client(0, decode_responses=decode)
    seen = keys.snapshot(client, None, ["orders", "other", "absent", "orders"], prefix=prefix)
    delivered: list[str] = []
    with Consumer(connection, [ORDERS], callbacks=[lambda body, m: (delivered.append(m.headers["id"]), m.ack())]):
        while len(delivered) < 5:
            connection.drain_events(timeout=5)
    assert seen["queues"] == {"orders": delivered, "other": ["elsewhere"], "absent": []}
    assert delivered[:2] == ["first", "second"]
    assert seen["bindings"] == {"orders": 1, "other": 1}
    assert (seen["unacked"], seen["index"], seen["mutex"], seen["results"]) == ({}, {}, False, {})


def test_a_received_message_is_unacked_with_the_time_of_its_receipt(
    server: LocalServer, connection: Connection, prefix: str
) -> None:
    client = server.client(0)
    publish(connection, ORDERS, "held")
    received: list[Any] = []
    with Consumer(connection, [ORDERS], callbacks=[lambda body, message: received.append(message)]):
        connection.drain_events(timeout=5)
        seen = keys.snapshot(client, None, ["orders"], prefix=prefix)
        tag = received[0].delivery_tag
        assert seen["unacked"] == {tag: "held"}
        assert list(seen["index"]) == [tag]
        assert abs(seen["index"][tag] - client.time()[0]) < 60
        assert not keys.empty(seen)
        received[0].ack()
        assert keys.empty(keys.snapshot(client, None, ["orders"], prefix=prefix))


def test_steps_of_the_transport_options_are_followed(server: LocalServer) -> None:
    options = {"priority_steps": [0, 5], "sep": ":"}
    with Connection(server.url(0), transport_options=options) as connection:
        publish(connection, ORDERS, "late", priority=7)
        publish(connection, ORDERS, "soon", priority=1)
    seen = keys.snapshot(server.client(0), None, ["orders"], steps=(0, 5), sep=":")
    assert seen["queues"] == {"orders": ["soon", "late"]}


@pytest.mark.parametrize("protocol", [1, 2])
def test_the_id_of_a_message_of_celery_is_found_in_both_protocols(server: LocalServer, protocol: int) -> None:
    app = Celery(set_as_current=False, broker=server.url(0))
    app.conf.task_protocol = protocol
    sent = app.send_task("a.task")
    assert keys.snapshot(server.client(0), None, ["celery"])["queues"] == {"celery": [sent.id]}
    app.pool.force_close_all()


def test_what_is_no_message_is_shown_and_not_hidden(server: LocalServer) -> None:
    client = server.client(0)
    client.rpush("orders", b"\xff\xfe", "[]", "{}", '{"headers": null}', '"text"', "1")
    client.hset("unacked", mapping={"a": "no json", "b": "[]", "c": "{}"})
    seen = keys.snapshot(client, None, ["orders"])
    assert seen["queues"] == {"orders": ["?"] * 6}
    assert seen["unacked"] == {"a": "?", "b": "?", "c": "?"}


@pytest.mark.parametrize("backend_prefix", ["", "mine", "mine:"])
def test_results_are_read_by_id_or_all_of_them(server: LocalServer, backend_prefix: str) -> None:
    app = Celery(set_as_current=False, broker=server.url(0), backend=server.url(1))
    app.conf.result_backend_transport_options = {"global_keyprefix": backend_prefix}
    app.backend.store_result("good", 1, "SUCCESS")
    app.backend.store_result("bad", ValueError("no"), "FAILURE")
    broker, backend = server.client(0), server.client(1)
    backend.set(f"{keys.result_prefix(backend_prefix)}celery-task-meta-odd", b"\x80pickle")

    def results(ids: list[str] | None) -> Any:
        return keys.snapshot(broker, backend, [], ids, backend_prefix=backend_prefix)["results"]

    assert results(None) == {"good": "SUCCESS", "bad": "FAILURE", "odd": "?"}
    assert results(["good", "absent", "good"]) == {"good": "SUCCESS"}
    assert results([]) == {}
    app.backend.client.connection_pool.disconnect()


def test_a_look_changes_nothing(server: LocalServer, connection: Connection, prefix: str) -> None:
    publish(connection, ORDERS, "waiting")
    client = server.client(0)
    begin = client.info("persistence")["rdb_changes_since_last_save"]
    keys.snapshot(client, server.client(1), ["orders"], prefix=prefix)
    keys.pending_brpop(client)
    assert client.info("persistence")["rdb_changes_since_last_save"] == begin


@pytest.mark.parametrize(
    ("key", "empty"), [("unacked", False), ("unacked_index", False), ("orders", False), ("unacked_mutex", True)]
)
def test_empty_means_that_no_message_is_left(server: LocalServer, key: str, empty: bool) -> None:
    client = server.client(0)
    writes: dict[str, Any] = {
        "unacked": lambda: client.hset(key, "tag", json.dumps([{"headers": {"id": "a"}}, "", ""])),
        "unacked_index": lambda: client.zadd(key, {"tag": 1.0}),
        "orders": lambda: client.lpush(key, "{}"),
        "unacked_mutex": lambda: client.set(key, "owner"),
    }
    assert keys.empty(keys.snapshot(client, None, ["orders"]))
    writes[key]()
    seen = keys.snapshot(client, None, ["orders"])
    assert keys.empty(seen) is empty
    assert seen["mutex"] is (key == "unacked_mutex")


def test_a_client_counts_as_waiting_only_while_it_waits_in_brpop(server: LocalServer) -> None:
    waiting, looking = server.client(0, socket_timeout=10), server.client(0)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(waiting.brpop(["orders"], timeout=10)))
    assert keys.pending_brpop(looking) == []
    thread.start()
    (address,) = wait.until(lambda: keys.pending_brpop(looking) or None, what="a pending BRPOP", timeout=5.0)
    assert address.startswith("127.0.0.1:")
    looking.lpush("orders", "message")
    thread.join(5.0)
    assert answers == [(b"orders", b"message")]
    assert keys.pending_brpop(looking) == []  # BRPOP is still its last command


def test_how_long_each_key_of_a_database_lives(server: LocalServer) -> None:
    client = server.client(15)
    client.set("for ever", 1)
    client.set("an hour", 1, ex=3600)
    server.client(0).set("elsewhere", 1)
    found = keys.lives(client)
    assert found.keys() == {"for ever", "an hour"}
    assert found["for ever"] == -1
    assert 3590 < found["an hour"] <= 3600


def test_a_key_of_another_type_is_told_and_read_as_empty(server: LocalServer) -> None:
    client = server.client(0)
    client.mset({"orders": "text", "unacked": "text", "_kombu.binding.orders": "text"})
    seen = keys.snapshot(client, None, ["orders"])
    assert seen["damaged"] == ["orders", "unacked", "_kombu.binding.orders"]
    assert (seen["queues"], seen["unacked"], seen["index"], seen["bindings"]) == ({"orders": []}, {}, {}, {"orders": 0})
