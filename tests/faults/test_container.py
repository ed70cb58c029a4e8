"""Faults of containers, seen from outside: by plain Redis reads, and in the engine's own words."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from pytest_celery_chaos.errors import UsageError

from .conftest import SetUp, Stage, solo

IMAGE = "valkey/valkey:8.1"


@pytest.fixture(scope="module")
def contained(set_up: SetUp) -> Stage:
    return set_up(server=IMAGE, workers=[solo()], persistence="aof-always")


@pytest.fixture(scope="module")
def local(set_up: SetUp) -> Stage:
    return set_up(persistence="aof-always")


def container(stage: Stage) -> Any:
    """What the engine says of the broker's container."""
    [found] = stage.broker._engine.docker.api.containers(
        filters={"label": [f"{key}={value}" for key, value in stage.broker._engine.labels.items()]}
    )
    return found


@pytest.mark.parametrize("where", ["contained", "local"])
def test_recreate_loses_the_data_or_keeps_the_volume(where: str, request: pytest.FixtureRequest) -> None:
    stage: Stage = request.getfixturevalue(where)
    before = stage.broker.host, stage.broker.port, stage.broker.url(0)
    for data, left in (("keep", b"value"), ("lose", None)):
        stage.outside(5).set("key", "value")
        one = stage.broker.child
        stage.chaos.recreate(broker="main", data=data)
        assert stage.broker.child is not one
        assert one.exit.signal == 9
        assert stage.outside(5).get("key") == left
        assert (stage.broker.host, stage.broker.port, stage.broker.url(0)) == before


def test_a_recreated_container_is_another_one(contained: Stage) -> None:
    before = container(contained)["Id"]
    contained.chaos.recreate(broker="main")
    assert container(contained)["Id"] != before
    contained.chaos.restart(broker="main")
    assert container(contained)["Id"] != before


def test_disconnect_silences_the_broker_until_it_is_healed(contained: Stage) -> None:
    client = contained.outside(5, socket_timeout=0.5)
    client.set("key", "value")
    connection = client.connection_pool.get_connection()
    local = connection._sock.getsockname()  # type: ignore[union-attr]
    contained.chaos.disconnect()
    began = time.monotonic()
    connection.send_command("GET", "key")
    with pytest.raises(redis.TimeoutError):
        connection.read_response(disconnect_on_error=False)
    assert time.monotonic() - began > 0.4, "it was told at once"
    assert container(contained)["NetworkSettings"]["Networks"] == {}
    contained.run.heal()
    # The same connection: what was sent meanwhile is sent once more by the kernel.
    connection._sock.settimeout(20)  # type: ignore[union-attr]
    assert connection.read_response() == b"value"
    assert connection._sock.getsockname() == local  # type: ignore[union-attr]
    assert contained.broker.ping() == "+PONG"


def test_a_process_of_this_machine_cannot_be_disconnected(local: Stage) -> None:
    with pytest.raises(UsageError, match="on no network of its own"):
        local.chaos.disconnect()
