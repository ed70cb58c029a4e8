"""The roles of keys, told by their names, and of the keys that Celery and kombu themselves write."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.roles import Key, Naming, role_of, scan

from .conftest import Launch

ASKER = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("orders", Key("queue", "orders", "0")),
        ("orders\x06\x169", Key("queue", "orders", "9")),
        ("unacked", Key("unacked")),
        ("unacked_index", Key("unacked_index")),
        ("unacked_mutex", Key("unacked_mutex")),
        ("_kombu.binding.celery.pidbox", Key("binding", "celery.pidbox")),
        ("_kombu.binding_permanent.orders", Key("binding_permanent", "orders")),
        ("_kombu.binding_deadlines", Key("binding_deadlines")),
        (f"{ASKER}.reply.celery.pidbox", Key("reply", ASKER, "0")),
        ("celery-task-meta-1", Key("result", "1")),
        ("celery-taskset-meta-1", Key("group", "1")),
        *((f"celery-taskset-meta-1{part}", Key("chord", "1", part)) for part in (".j", ".t", ".s", ".d", ".c")),
        ("chord-unlock-1", Key("chord", "1", "unlock")),
        ("celery:worker:state:a@host:zrevoked", Key("statedb", "a@host", "zrevoked")),
        ("celery-chaos:filler:1", Key("harness", part="filler:1")),
        ("strange", Key("other")),
        ("strange\x06\x169", Key("other")),
        ("unacked_other", Key("other")),
    ],
)
def test_the_role_is_told_by_the_name(key: str, found: Key) -> None:
    assert Naming(queues=["orders"]).key(key) == found
    assert role_of(key.encode(), Naming(queues=["orders"])) == found.role


def test_bytes_that_are_no_text_are_somebody_elses() -> None:
    assert role_of(b"\xff\xfe") == "other"


def test_names_follow_the_settings() -> None:
    options = {"global_keyprefix": "mine:", "sep": ":", "unacked_key": "open", "unacked_index_key": "when"}
    config = {"broker_transport_options": options, "result_backend_transport_options": {"global_keyprefix": "res"}}
    naming = Naming.of({**config, "redis_state_key_prefix": "state:"}, ["orders"])
    roles = {key: role_of(key, naming) for key in ("mine:orders", "mine:orders:3", "mine:open", "mine:when")}
    assert list(roles.values()) == ["queue", "queue", "unacked", "unacked_index"]
    assert role_of("res_celery-task-meta-1", naming) == "result"
    assert naming.key("state:a@b:clock") == Key("statedb", "a@b", "clock")
    # Outside the prefix is somebody else's, as are the names that are not in use.
    strangers = ("orders", "unacked", "mine:unacked", "celery-task-meta-1", "celery:worker:state:a@b:clock")
    assert {role_of(key, naming) for key in strangers} == {"other"}


@pytest.fixture
def server(make_any: Launch) -> LocalServer:
    server = make_any()
    server.start()
    return server


@pytest.mark.parametrize("prefix", ["", "mine"])
def test_no_key_that_kombu_writes_is_strange(server: LocalServer, prefix: str) -> None:
    naming = Naming(queues=["orders", "soon"], prefix=prefix)
    orders = Queue("orders", Exchange("orders"), routing_key="orders")
    soon = Queue("soon", Exchange("soon"), routing_key="soon", expires=60)
    with Connection(server.url(0), transport_options={"global_keyprefix": prefix}) as connection:
        producer = Producer(connection)
        for queue, priority in ((orders, 0), (orders, 9), (soon, 0), (soon, 0)):
            producer.publish(
                {}, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], priority=priority
            )
        held: list[Any] = []
        with Consumer(connection, [soon], callbacks=[lambda body, message: held.append(message)]):
            connection.drain_events(timeout=5)
            found = Counter(key.role for _, key in scan(server.client(0), naming))
    assert found["other"] == 0
    assert (found["queue"], found["unacked"], found["unacked_index"]) == (3, 1, 1)
    assert (found["binding"], found["binding_permanent"], found["binding_deadlines"]) == (2, 1, 1)
    assert held
