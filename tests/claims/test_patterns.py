"""H2, H4 to H7: what the documents say of code around Celery, as it is shown in them, on a real server.

Where a claim proved false the test says what was found: it fails when a later version keeps the promise.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_celery_chaos.brokers.local import LocalServer

celery = pytest.importorskip("celery")
kombu = pytest.importorskip("kombu")

#: As the guide has them.
OPTIONS = {"retry_on_timeout": True, "max_retries": 3, "socket_keepalive": True}


def application(address: str, options: dict[str, Any] | None = None) -> Any:
    app = celery.Celery("proj", broker=address, set_as_current=False)
    app.conf.broker_transport_options = options or {}
    return app


# H2: polling


def test_h2_polling_as_shown_reads_the_same_events_again(server: LocalServer) -> None:
    client = server.client(0)
    client.rpush("event_queue", "one", "two")
    assert client.lrange("event_queue", 0, -1) == client.lrange("event_queue", 0, -1) == [b"one", b"two"]


def test_h2_what_comes_between_reading_and_clearing_is_missed(server: LocalServer) -> None:
    """The usual next step, DEL after the loop, loses what arrived since; one command that does both does not."""
    client = server.client(0)
    client.rpush("event_queue", "one")
    seen = client.lrange("event_queue", 0, -1)
    client.rpush("event_queue", "two")
    client.delete("event_queue")
    seen += client.lrange("event_queue", 0, -1)
    assert seen == [b"one"]
    client.rpush("event_queue", "three", "four")
    assert client.lpop("event_queue", 100) == [b"three", b"four"]


def test_h2_a_server_that_dies_without_persistence_takes_unread_events_with_it(server: LocalServer) -> None:
    server.client(0).rpush("event_queue", "one")
    server.kill()
    server.restart()
    assert server.client(0).lrange("event_queue", 0, -1) == []


# H4: the transport options of the guide


def publish(app: Any) -> None:
    app.send_task("proj.add")


def broadcast(app: Any) -> None:
    app.control.broadcast("ping")


@pytest.fixture
def attempts(refusing: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """How many connections it takes somebody to give up; no time passes between them."""
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    port, came = refusing

    def attempts(ask: Callable[[Any], None], **options: Any) -> int:
        before = len(came)
        with (
            application(f"redis://127.0.0.1:{port}/0", options) as app,
            pytest.raises(kombu.exceptions.OperationalError),
        ):
            ask(app)
        return len(came) - before

    return attempts


def test_h4_max_retries_bounds_remote_control_and_no_publish(attempts: Callable[..., int]) -> None:
    """How often a publish is tried is for `task_publish_retry_policy` to say."""
    assert [attempts(broadcast, max_retries=number) for number in (1, 5)] == [2, 6]
    assert [attempts(publish, max_retries=number) for number in (1, 5)] == [4, 4]


def test_h4_retry_on_timeout_tries_four_times_where_it_was_once(attempts: Callable[..., int]) -> None:
    """By redis-py, before kombu hears of it, and though nothing timed out."""
    assert attempts(publish) == 4
    assert attempts(publish, **OPTIONS) == 4 * 4


def test_h4_keepalive_reaches_the_socket(server: LocalServer) -> None:
    def kept_alive(**options: Any) -> bool:
        with application(server.url(0), options) as app, app.connection_for_write() as connection:
            connection.connect()
            pool = connection.default_channel.pool
            held = pool.get_connection()
            try:
                return bool(held._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            finally:
                pool.release(held)

    assert kept_alive(**OPTIONS)
    assert not kept_alive(socket_keepalive=False)


def test_h4_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`VAPI_RETRY_ATTEMPTS` is of a package that the document does not name: who wants it to count has to read it."""

    def settings() -> tuple[Any, ...]:
        app = application("redis://127.0.0.1:1/0")
        return app.conf.broker_transport_options, app.conf.task_publish_retry_policy, app.conf.redis_retry_on_timeout

    before = settings()
    for name in ("VAPI_RETRY_ATTEMPTS", "VALKEY_RETRY_ATTEMPTS", "CELERY_RETRY_ATTEMPTS"):
        monkeypatch.setenv(name, "77")
    assert settings() == before


# H5: cache, rate limit and circuit breaker around a task


def test_h5_the_functions_that_the_guide_wraps_are_never_awaited() -> None:
    """It wraps coroutine functions; Celery calls a task, and does not wait for what it returns."""
    app = celery.Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
    ran = []

    @app.task
    async def work() -> None:
        ran.append(1)

    returned = work()
    assert returned.send
    returned.close()
    assert ran == []


def test_h5_a_rate_limit_whose_client_dies_between_two_commands_never_opens_again(server: LocalServer) -> None:
    """INCR, then EXPIRE where it was the first. A SET with NX and EX before INCR leaves no such moment."""

    def allowed(name: str, *, dies: bool = False) -> bool:
        count = client.incr(name)
        if count == 1 and not dies:
            client.pexpire(name, 50)
        return int(count) <= 3

    client = server.client(0)
    assert allowed("limit", dies=True)
    assert [allowed("limit") for _ in range(4)] == [True, True, False, False]
    assert client.ttl("limit") == -1


def test_h5_a_cache_by_the_guides_key_has_an_effect_twice_and_once_for_two(server: LocalServer) -> None:
    """`args` and `kwargs` as text: their order counts, and one effect that is wanted twice is had once."""

    def key(*args: Any, **kwargs: Any) -> str:
        return f"proj:pay:{args}:{kwargs}"

    def once(*args: Any, **kwargs: Any) -> None:
        if client.set(key(*args, **kwargs), "done", nx=True, ex=60):
            effects.append(kwargs)

    client = server.client(0)
    effects: list[Any] = []
    once(order=1, amount=5)
    once(amount=5, order=1)
    assert len(effects) == 2
    once(order=1, amount=5)
    assert len(effects) == 2


# H6: what can be watched


def test_h6_the_length_of_a_queue_is_not_its_depth(server: LocalServer) -> None:
    """LLEN, which exporters show, does not count what workers have taken and not acknowledged."""
    app = application(server.url(0))
    for _ in range(5):
        publish(app)
    client = server.client(0)
    assert client.llen("celery") == 5
    bodies = []

    def taken(body: Any, message: Any) -> None:
        bodies.append(body)

    with (
        app.connection_for_read() as connection,
        connection.Consumer(app.amqp.queues["celery"], callbacks=[taken]) as consumer,
    ):
        consumer.qos(prefetch_count=5)
        for _ in range(5):
            connection.drain_events(timeout=5)
        assert client.llen("celery") == 0
        assert client.hlen("unacked") == 5
    assert not any("celery" in str(value) for section in ("stats", "keyspace") for value in client.info(section))


def test_h6_monitor_shows_what_tasks_are_given(server: LocalServer) -> None:
    """Who may watch by MONITOR reads arguments, as whoever may read the queue."""
    app = application(server.url(0))
    with server.client(0).monitor() as monitor:
        app.send_task("proj.login", kwargs={"password": "s3cret"})
        seen = [monitor.next_command()["command"] for _ in range(3)]
        while not any("LPUSH" in line for line in seen):
            seen.append(monitor.next_command()["command"])
    assert "s3cret" in next(line for line in seen if "LPUSH" in line)


# H7: secrets


def test_h7_the_password_of_an_address_is_not_shown_and_one_among_options_is() -> None:
    """`celery inspect stats` is answered over the broker and printed by whoever asks."""
    from celery.worker.consumer.connection import Connection

    app = application("redis://:s3cret@127.0.0.1:1/0", {"sentinel_kwargs": {"password": "0ther"}})
    connection = app.connection_for_write()
    shown = f"{connection.as_uri()} {app.conf.humanize()} {app.bugreport()}"
    assert "s3cret" not in shown
    stats = str(Connection.info(None, SimpleNamespace(connection=connection)))
    assert "s3cret" not in stats
    assert "0ther" in stats


def test_h7_arguments_are_in_the_headers_of_a_message_unless_it_is_said_how_to_show_them() -> None:
    app = application("memory://")
    given = {"args": (), "kwargs": {"password": "s3cret"}}
    assert "s3cret" in str(app.amqp.as_task_v2("an-id", "proj.login", **given).headers)
    message = app.amqp.as_task_v2("an-id", "proj.login", kwargsrepr="{'password': '***'}", **given)
    assert "s3cret" not in str(message.headers)
