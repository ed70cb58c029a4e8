"""kombu's Redis behaviours, on both clients alike."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.system import wait

from .conftest import Connect, address

ORDERS = Queue("orders", Exchange("orders"), routing_key="orders")


def publish(connection: Connection, *bodies: Any, queue: Queue = ORDERS, **options: Any) -> None:
    producer = connection.Producer()
    for body in bodies:
        producer.publish(body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options)


def take(connection: Connection, n: int = 1, queue: Queue = ORDERS, timeout: float = 5) -> list[Any]:
    """*n* messages, unacknowledged."""
    found: list[Any] = []
    with Consumer(connection.default_channel, [queue], callbacks=[lambda _, message: found.append(message)]):
        while len(found) < n:
            connection.drain_events(timeout=timeout)
    return found


def payloads(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]


def test_what_is_published_is_consumed_and_acknowledged(connect: Connect, server: LocalServer) -> None:
    publish(connect(), "a", "b")
    messages = take(connect(), 2)
    assert payloads(messages) == ["a", "b"]
    assert server.client(0).hlen("unacked") == 2
    for message in messages:
        message.ack()
    assert server.client(0).keys("unacked*") == []


def test_a_rejected_message_is_gone_and_a_requeued_one_comes_again(connect: Connect, server: LocalServer) -> None:
    connection = connect()
    publish(connection, "a", "b", "c")
    first, second = take(connection, 2)
    first.reject()
    second.requeue()
    assert server.client(0).hlen("unacked") == 0
    again = take(connection, 2)
    assert payloads(again) == ["c", "b"], "kombu puts what is requeued behind the others"
    assert [message.headers.get("redelivered", False) for message in again] == [False, True]


def test_a_channel_that_closes_gives_back_what_it_had_not_acknowledged(connect: Connect, server: LocalServer) -> None:
    connection = connect()
    publish(connection, "a")
    take(connection)
    connection.default_channel.close()
    assert server.client(0).llen("orders") == 1
    assert server.client(0).hlen("unacked") == 0


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_a_message_past_its_visibility_timeout_is_restored(connect: Connect, server: LocalServer, prefix: str) -> None:
    options = {"visibility_timeout": 60, "global_keyprefix": prefix}
    publish(connect(**options), "a")
    lost = connect(**options)
    (message,) = take(lost)
    keys = server.client(0)
    assert keys.zcard(f"{prefix}unacked_index") == 1
    connect(**options).default_channel.qos.restore_visible()
    assert keys.hlen(f"{prefix}unacked") == 1, "restored before its time"
    keys.zadd(f"{prefix}unacked_index", {message.delivery_tag: time.time() - 61})
    connect(**options).default_channel.qos.restore_visible()
    (again,) = take(connect(**options))
    assert again.payload == "a"
    assert again.headers["redelivered"] is True
    assert not keys.exists(f"{prefix}unacked_mutex")


def test_a_sweep_that_takes_longer_than_its_mutex_lives_ends_without_an_error(
    connect: Connect, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(visibility_timeout=0)
    publish(connection, "a")
    take(connection)
    qos, keys, restored = connection.default_channel.qos, server.client(0), []
    monkeypatch.setattr(qos, "restore_by_tag", lambda tag, client: restored.append(keys.delete("unacked_mutex")))
    qos.restore_visible()
    assert restored == [1]


def test_who_holds_the_mutex_keeps_others_from_sweeping(connect: Connect, server: LocalServer) -> None:
    connection = connect(visibility_timeout=0)
    publish(connection, "a")
    take(connection)
    keys = server.client(0)
    keys.set("unacked_mutex", "another")
    connection.default_channel.qos.restore_visible()
    assert keys.hlen("unacked") == 1
    assert keys.get("unacked_mutex") == b"another"


def test_an_urgent_message_overtakes(connect: Connect, server: LocalServer) -> None:
    connection = connect(priority_steps=[0, 3, 6, 9])
    for priority in (9, 3, 0, 6):
        publish(connection, priority, priority=priority)
    assert payloads(take(connection, 4)) == [0, 3, 6, 9]


@pytest.mark.parametrize("options", [{}, {"global_keyprefix": "shop:"}, {"fanout_prefix": False}], ids=str)
def test_a_fanout_reaches_every_queue_that_listens(
    connect: Connect, server: LocalServer, options: dict[str, Any]
) -> None:
    exchange = Exchange("news", type="fanout")
    found: dict[str, list[Any]] = {}
    readers = []
    for name in ("left", "right"):
        connection = connect(**options)
        queue = Queue(name, exchange, auto_delete=True)

        def heard(body: Any, message: Any, name: str = name) -> None:
            found.setdefault(name, []).append(body)
            message.ack()

        consumer = Consumer(connection.default_channel, [queue], callbacks=[heard])
        consumer.consume()
        readers.append((connection, consumer))
        until_subscribed(connection, server, len(readers))
    connect(**options).Producer().publish("hello", exchange=exchange, routing_key="", declare=[exchange])
    for connection, _ in readers:
        connection.drain_events(timeout=5)
    assert found == {"left": ["hello"], "right": ["hello"]}


def test_topics_route_by_pattern(connect: Connect) -> None:
    exchange = Exchange("events", type="topic")
    queue = Queue("created", exchange, routing_key="order.*")
    connection = connect()
    queue(connection.default_channel).declare()
    for key in ("order.created", "invoice.created"):
        connection.Producer().publish(key, exchange=exchange, routing_key=key)
    assert payloads(take(connection, 1, queue)) == ["order.created"]
    assert connection.default_channel._size("created") == 0


@pytest.mark.skipif(version("kombu") < "5.7", reason="kombu lets queues expire from 5.7 on")
def test_a_queue_that_expires_is_gone_when_nobody_uses_it(connect: Connect, server: LocalServer) -> None:
    queue = Queue("short", Exchange("short"), routing_key="short", expires=60)
    publish(connect(), "a", queue=queue)
    assert 0 < server.client(0).pttl("short") <= 60_000


def test_every_key_has_the_prefix(connect: Connect, server: LocalServer) -> None:
    connection = connect(global_keyprefix="shop:")
    publish(connection, "a", "b")
    (first, *_) = take(connection, 2)
    first.ack()
    assert (keys := server.client(0).keys("*"))
    assert all(key.startswith(b"shop:") for key in keys), keys


def test_a_queue_is_purged_and_deleted(connect: Connect, server: LocalServer) -> None:
    connection = connect()
    publish(connection, "a", "b", "c")
    bound = ORDERS(connection.default_channel)
    assert bound.purge() == 3
    bound.delete()
    assert server.client(0).keys("*") == []


@pytest.mark.filterwarnings("ignore:Call to 'get_connection':DeprecationWarning")
def test_no_more_connections_than_the_pool_may_hold(connect: Connect, scheme: str, server: LocalServer) -> None:
    connection = connect(max_connections=1)
    channel = connection.default_channel
    pool = channel.pool
    assert pool.max_connections == 1
    held = pool.get_connection("PING")
    with pytest.raises(connection.connection_errors):
        pool.get_connection("PING")
    pool.release(held)


def test_a_server_that_goes_is_a_connection_error_and_the_next_connection_works(
    scheme: str, launch: Callable[..., LocalServer]
) -> None:
    server = launch()
    connection = Connection(address(server, scheme))
    publish(connection, "a")
    server.kill()
    with pytest.raises(connection.recoverable_connection_errors):
        take(connection)
    server.start()
    publish(fresh := Connection(address(server, scheme)), "b")
    assert payloads(take(fresh)) == ["b"]
    connection.release()
    fresh.release()


def test_a_command_that_the_server_refuses_is_a_channel_error(connect: Connect, server: LocalServer) -> None:
    server.client(0).set("orders", "not a list")
    connection = connect()
    with pytest.raises(connection.channel_errors, match="WRONGTYPE"):
        publish(connection, "a")


def test_a_consumer_whose_connection_is_cut_sees_a_connection_error(connect: Connect, server: LocalServer) -> None:
    connection = connect()
    with Consumer(connection.default_channel, [ORDERS], callbacks=[lambda body, message: None]):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.2)
        for client in server.client(0).client_list():
            if client["cmd"] == "brpop":
                server.client(0).client_kill_filter(_id=client["id"])
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=5)


def test_a_channel_learns_that_its_connection_is_dropped_and_waits_anew(connect: Connect) -> None:
    connection, found = connect(), []
    channel = connection.default_channel
    with Consumer(channel, [ORDERS], callbacks=[lambda body, message: found.append(body)]):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.2)
        assert channel._in_poll
        channel.client.connection.disconnect()  # as kombu does where a reply is overdue
        assert not channel._in_poll
        publish(connect(), "a")
        connection.drain_events(timeout=5)
    assert found == ["a"]


def test_a_unix_socket_with_its_database(server: LocalServer, scheme: str, connect: Connect) -> None:
    connection = connect(f"{scheme}+socket://{server.socket_path}?virtual_host=3", health_check_interval=5)
    publish(connection, "a")
    assert server.client(3).llen("orders") == 1
    assert payloads(take(connection)) == ["a"]
    assert all(str(server.socket_path) in client["laddr"] for client in mine(server))


def test_the_server_is_told_which_library_it_is(server: LocalServer, scheme: str, connect: Connect) -> None:
    connection = connect()
    publish(connection, "a")
    take(connection)
    expected = {"redis": "redis-py", "valkey": "valkey-py"}[scheme]
    assert {client["lib-name"] for client in mine(server)} == {expected}
    assert connection.transport.driver_type == "redis"
    assert connection.transport.driver_version()


def test_a_connection_that_was_idle_is_checked_before_it_is_used(server: LocalServer, connect: Connect) -> None:
    def pings() -> int:
        return int(server.client(0).info("commandstats")["cmdstat_ping"]["calls"])

    with connect(health_check_interval=1).default_channel.conn_or_acquire() as client:
        client.llen("orders")
        before = pings()
        client.llen("orders")
        assert pings() == before
        time.sleep(1.1)
        client.llen("orders")
        assert pings() == before + 1


def until_subscribed(connection: Connection, server: LocalServer, n: int) -> None:
    def subscribed() -> bool:
        with suppress(socket.timeout):
            connection.drain_events(timeout=0.05)
        return sum(int(client["sub"]) + int(client["psub"]) for client in server.client(0).client_list()) == n

    wait.until(subscribed, what="the subscription", timeout=5)


def mine(server: LocalServer) -> list[dict[str, str]]:
    """The connections that are not the harness's own."""
    return [client for client in server.client(0).client_list() if client["name"] != "celery-chaos"]
