"""A1, A8, A9: what the documents say of addresses, transport options and an extra, where it takes no worker to see.

A claim that proved false is written down as what was found: such a test fails when a later version keeps the promise.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from typing import Any

import pytest

from pytest_celery_chaos.brokers.local import LocalServer

celery = pytest.importorskip("celery")
kombu = pytest.importorskip("kombu")


def published(address: str) -> None:
    """Publish one task and put one result to *address*."""
    app = celery.Celery("proj", broker=address, backend=address)
    try:
        app.backend.store_result("an-id", 42, "SUCCESS")
        app.send_task("proj.add")
    finally:
        app.close()


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("redis://", (None, 6379, 0, None)),
        ("redis://elsewhere", ("elsewhere", 6379, 0, None)),
        ("redis://elsewhere:7000", ("elsewhere", 7000, 0, None)),
        ("redis:///5", (None, 6379, 5, None)),
        ("redis://:word@", (None, 6379, 0, "word")),
        ("redis://:word@elsewhere:7000/5", ("elsewhere", 7000, 5, "word")),
    ],
)
def test_what_an_address_leaves_out_is_the_default(
    monkeypatch: pytest.MonkeyPatch, address: str, meant: tuple[object, ...]
) -> None:
    def connect(self: Any, *_: Any, **__: Any) -> None:
        raise Asked(self.host, self.port, self.db, self.password)

    monkeypatch.setattr("redis.connection.Connection.connect", connect)
    with pytest.raises(Asked) as asked:
        kombu.Connection(address).default_channel.client.ping()
    assert asked.value.args == (meant[0] or "127.0.0.1", *meant[1:])
    with pytest.raises(Asked) as asked:
        celery.Celery("proj", backend=address).backend.client.ping()
    assert asked.value.args == (meant[0] or "localhost", *meant[1:])


class Asked(Exception):
    """Where a connection was to lead."""


def test_redis_socket_reaches_the_database_through_the_socket(server: LocalServer) -> None:
    published(f"redis+socket://{server.socket_path}?virtual_host=3")
    assert server.client(3).llen("celery") == 1
    assert server.client(3).exists("celery-task-meta-an-id")
    assert not server.client(0).exists("celery")


def test_a_path_in_the_query_of_a_redis_address_is_an_error(server: LocalServer) -> None:
    # The document's spelling: `redis://localhost:6379/0?socket_timeout=5&path=/path/to/redis.sock`.
    address = f"redis://127.0.0.1:{server.port}/0?path={server.socket_path}"
    with pytest.raises(TypeError, match="unexpected keyword argument 'path'"):
        kombu.Connection(address)
    app = celery.Celery("proj", backend=address)
    with pytest.raises(TypeError, match="unexpected keyword argument 'path'"):
        app.backend.client.ping()


def test_socket_alone_is_no_transport(server: LocalServer) -> None:
    with pytest.raises(KeyError, match="No such transport: socket"):
        kombu.Connection(f"socket://{server.socket_path}").default_channel  # noqa: B018
    backend = celery.Celery("proj", backend=f"socket://{server.socket_path}")
    with pytest.raises(celery.exceptions.ImproperlyConfigured, match="socket"):
        backend.backend  # noqa: B018


@pytest.mark.parametrize("name", ["celery", "kombu"])
def test_there_is_no_extra_valkey(name: str) -> None:
    # `pip install "celery[valkey]"` warns of an extra that is not provided, and installs Celery alone.
    extras = importlib.metadata.metadata(name).get_all("Provides-Extra") or []
    assert "redis" in extras
    assert "valkey" not in extras


def test_valkey_is_no_transport_and_no_backend() -> None:
    with pytest.raises(KeyError, match="No such transport: valkey"):
        kombu.Connection("valkey://localhost").default_channel  # noqa: B018
    app = celery.Celery("proj", backend="valkey://localhost")
    # Where valkey-py is installed, Celery takes its module for what the name may mean, and finds no class in it.
    with pytest.raises((ModuleNotFoundError, celery.exceptions.ImproperlyConfigured), match="valkey"):
        app.backend  # noqa: B018


def drain(connection: Any) -> None:
    """Take in whatever comes, until nothing more does."""
    with contextlib.suppress(TimeoutError):
        while True:
            connection.drain_events(timeout=0.5)


def heard(server: LocalServer, subscriber: bool, publisher: bool) -> list[str]:
    """What a subscriber to `worker.#` hears of two events, each side with its own `fanout_patterns`."""
    found: list[str] = []

    def note(body: Any, message: Any) -> None:
        found.append(body)
        message.ack()

    url = f"redis://127.0.0.1:{server.port}/0"
    exchange = kombu.Exchange("ev", type="fanout", durable=False)
    with (
        kombu.Connection(url, transport_options={"fanout_patterns": subscriber}) as listening,
        kombu.Connection(url, transport_options={"fanout_patterns": publisher}) as telling,
    ):
        queue = kombu.Queue("mine", exchange, routing_key="worker.#", auto_delete=True)
        with listening.Consumer(queue, callbacks=[note]):
            drain(listening)  # the subscription itself is answered first
            producer = telling.Producer()
            for key in ("worker.online", "task.sent"):
                producer.publish(key, exchange=exchange, routing_key=key, declare=[exchange])
            drain(listening)
    return found


@pytest.mark.parametrize(
    ("subscriber", "publisher", "expected"),
    [
        (True, True, ["worker.online"]),
        (False, False, ["worker.online", "task.sent"]),
        (True, False, []),
        (False, True, []),
    ],
)
def test_fanout_patterns_filter_where_all_agree_on_them(
    server: LocalServer, subscriber: bool, publisher: bool, expected: list[str]
) -> None:
    assert heard(server, subscriber, publisher) == expected
