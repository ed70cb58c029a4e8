"""Celery's Redis result backend, on both clients alike; what needs a worker is in test_tasks.py."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import TimeoutError as ResultTimeout
from redis import CredentialProvider

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone

from .conftest import address


def test_a_result_is_stored_read_and_forgotten(app: Celery, server: LocalServer) -> None:
    app.backend.store_result("t1", {"total": 3}, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == {"total": 3}
    app.AsyncResult("t1").forget()
    assert server.client(1).keys("*") == []


def test_a_failure_comes_back_as_the_exception(app: Celery) -> None:
    app.backend.store_result("t1", ValueError("no stock"), states.FAILURE, traceback="…")
    with pytest.raises(ValueError, match="no stock"):
        app.AsyncResult("t1").get(timeout=5)


def test_results_expire(app: Celery, server: LocalServer) -> None:
    app.conf.result_expires = 60
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert 0 < server.client(1).ttl("celery-task-meta-t1") <= 60


def test_who_waits_is_told_by_pub_sub(app: Celery, server: LocalServer) -> None:
    result = app.AsyncResult("t1")
    app.backend.result_consumer.consume_from("t1")
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.1)
    assert server.client(1).pubsub_numsub("celery-task-meta-t1")[0][1] == 1
    app.backend.store_result("t1", "ready", states.SUCCESS)
    assert result.get(timeout=5, interval=30) == "ready"


def test_a_subscription_that_is_cut_is_taken_up_again(app: Celery, server: LocalServer) -> None:
    app.backend.result_consumer.consume_from("t1")
    app.backend.result_consumer.consume_from("t2")
    server.client(1).client_kill_filter(_type="pubsub")
    app.backend.store_result("t1", "while it was down", states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == "while it was down"
    app.backend.store_result("t2", "after", states.SUCCESS)
    assert app.AsyncResult("t2").get(timeout=5) == "after"


def test_a_subscription_with_nothing_left_in_it_is_taken_up_again(app: Celery, server: LocalServer) -> None:
    consumer = app.backend.result_consumer
    consumer.consume_from("t1")
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == 1
    consumer._reconnect_pubsub()  # without a channel it takes a connection for no command in particular
    consumer.consume_from("t2")
    app.backend.store_result("t2", 2, states.SUCCESS)
    assert app.AsyncResult("t2").get(timeout=5) == 2


def test_a_lost_connection_is_retried_as_the_policy_says(
    scheme: str, launch: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = launch()
    app = Celery("shop", backend=address(server, scheme), set_as_current=False)
    app.conf.result_backend_transport_options = {"retry_policy": {"max_retries": 2, "interval_start": 0, "timeout": 5}}
    app.backend.set("key", "before")
    server.kill()
    with pytest.raises(app.backend.connection_errors):
        app.backend.set("key", "while it is down")
    retries = [message for message in caplog.messages if message.startswith("Connection to Redis lost: Retry")]
    assert [message.split()[5] for message in retries] == ["(0/2)", "(1/2)"]
    server.start()
    app.backend.store_result("t3", 3, states.SUCCESS)
    assert app.AsyncResult("t3").get(timeout=5) == 3
    leave_results_alone(app.backend)


def test_the_prefix_of_results(app: Celery, server: LocalServer) -> None:
    app.conf.result_backend_transport_options = {"global_keyprefix": "shop_"}
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert server.client(1).keys("*") == [b"shop_celery-task-meta-t1"]


@pytest.mark.parametrize("setting", ["redis_max_connections", "redis_socket_timeout"])
def test_celerys_settings_of_redis_reach_the_pool(app: Celery, setting: str) -> None:
    app.conf[setting] = 7
    pool = app.backend.client.connection_pool
    found = {"redis_max_connections": pool.max_connections, **_renamed(pool.connection_kwargs)}
    assert found[setting] == 7


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    return {f"redis_{name}": value for name, value in options.items()}


def test_options_in_the_address_reach_the_pool(server: LocalServer, scheme: str) -> None:
    app = Celery("shop", backend=f"{address(server, scheme)}?socket_timeout=3&max_connections=9", set_as_current=False)
    pool = app.backend.client.connection_pool
    assert (pool.connection_kwargs["socket_timeout"], pool.max_connections) == (3.0, 9)


def test_a_unix_socket_with_its_database(server: LocalServer, scheme: str) -> None:
    url = f"{scheme}+socket://{server.socket_path}?virtual_host=2"
    app = Celery("shop", backend=url, set_as_current=False)
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == 1
    assert server.client(2).keys("*") == [b"celery-task-meta-t1"]
    leave_results_alone(app.backend)


def test_the_password_is_used_and_not_shown(scheme: str, launch: Callable[..., LocalServer]) -> None:
    server = launch()
    server.client(0).config_set("requirepass", "p@ss")
    app = Celery("shop", backend=f"{scheme}://:p%40ss@{server.host}:{server.port}/0", set_as_current=False)
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == 1
    assert "p@ss" not in app.backend.as_uri()
    assert "%40" not in app.backend.as_uri()
    leave_results_alone(app.backend)


def test_a_wrong_password_is_a_connection_error(scheme: str, launch: Callable[..., LocalServer]) -> None:
    server = launch()
    server.client(0).config_set("requirepass", "right")
    app = Celery("shop", backend=f"{scheme}://:wrong@{server.host}:{server.port}/0", set_as_current=False)
    with pytest.raises(app.backend.connection_errors, match="invalid username-password"):
        app.backend.get("x")


@pytest.mark.skipif(version("celery") < "5.7", reason="Celery knows the option from 5.7 on")
def test_further_connection_errors_are_kept(app: Celery) -> None:
    app.conf.result_backend_transport_options = {"additional_connection_errors": "builtins.ZeroDivisionError"}
    assert ZeroDivisionError in app.backend.connection_errors


def test_the_server_is_told_which_library_it_is(app: Celery, server: LocalServer, scheme: str) -> None:
    app.backend.store_result("t1", 1, states.SUCCESS)
    (name,) = {each["lib-name"] for each in server.client(1).client_list() if each["name"] != "celery-chaos"}
    library = {"redis": "redis-py", "valkey": "valkey-py"}[scheme]
    assert name.startswith(library), name


class Provider(CredentialProvider):
    """Celery and kombu take redis-py's kind alone; valkey-py only calls it."""

    def get_credentials(self) -> tuple[str]:
        return ("right",)


@pytest.mark.skipif(version("celery") < "5.6", reason="Celery's backend knows providers from 5.6 on")
def test_a_credential_provider_of_redis_py_serves_both(scheme: str, launch: Callable[..., LocalServer]) -> None:
    server = launch()
    server.client(0).config_set("requirepass", "right")
    url = f"{address(server, scheme)}?credential_provider={__name__}.Provider"
    app = Celery("shop", broker=url, backend=url, set_as_current=False)
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == 1
    with app.connection_for_write() as connection:
        connection.default_channel.client.ping()
    leave_results_alone(app.backend)
