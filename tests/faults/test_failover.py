"""Sentinel and replicas, seen from outside: by a Sentinel-aware client of the test's own, and by plain Redis reads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.system import wait

from .conftest import SetUp, Stage

SERVERS = (
    pytest.param("valkey-9.1", marks=pytest.mark.soak),  # and scenarios/sentinel
    pytest.param("redis-6.2", marks=pytest.mark.soak),
    "valkey/valkey:8.1",
    pytest.param("redis:8.0", marks=pytest.mark.soak),
)


@pytest.fixture(params=SERVERS)
def watched(request: pytest.FixtureRequest, set_up: SetUp) -> Stage:
    return set_up(server=request.param, topology="sentinel", password=True)


def sentinel(stage: Stage) -> Any:
    """A client's own view: it has the Sentinels' addresses, and a password."""
    several = stage.run.environment.servers.replicated["main"]
    addresses = [each.peer_address for each in several.sentinels.values()]
    return Sentinel(addresses, sentinel_kwargs={"password": stage.broker.password, "retry": None}, socket_timeout=2)


def primary(stage: Stage) -> tuple[str, int]:
    host, port = sentinel(stage).discover_master("main")
    return host, port


def test_a_replica_takes_the_place_of_a_primary_that_is_replaced_killed_or_frozen(watched: Stage) -> None:
    stage = watched
    assert len(sentinel(stage).discover_slaves("main")) == 2
    seen = [primary(stage)]
    assert seen == [stage.broker.peer_address]
    stage.outside(5).set("key", "value")

    stage.chaos.failover(broker="main")
    seen.append(primary(stage))
    assert (stage.told("failover")["before"], stage.told("failover")["now"]) == ("main-1", stage.broker.name)
    assert stage.outside(5).get("key") == b"value"

    for number, (fault, heals) in enumerate((("kill", "kill"), ("pause", "pause")), start=2):
        # Until the one that was replaced before is a replica again, there is only one to choose.
        stage.chaos.wait(at="demoted", nth=number - 1, timeout=30)
        wait.until(lambda: len(sentinel(stage).discover_slaves("main")) == 2, what="two replicas", timeout=30)
        getattr(stage.chaos, fault)(broker="main", name=heals)
        stage.chaos.wait(at="promoted", nth=number, timeout=30)
        seen.append(primary(stage))
        assert seen[-1] == stage.broker.peer_address
        assert stage.outside(5).get("key") == b"value"
        stage.chaos.heal(what=heals)
    assert all(one != other for one, other in pairwise(seen))
    promoted = [(event.attrs["instead_of"], event.name) for event in stage.chaos.history.of("promoted")]
    assert [one for one, _ in promoted[1:]] == [other for _, other in promoted[:-1]]


def test_a_sentinel_may_be_killed_and_the_others_agree(set_up: SetUp) -> None:
    stage = set_up(topology="sentinel")
    stage.chaos.kill(broker="main-sentinel-2", name="one")
    stage.chaos.kill(broker="main", name="death")
    stage.chaos.wait(at="promoted", timeout=30)
    assert primary(stage) == stage.broker.peer_address
    # Healed, the one that was the primary is there again, and is not the primary.
    stage.chaos.heal(what="death")
    old = stage.run.broker("main-1")
    assert old.alive
    assert old is not stage.broker
    stage.chaos.heal(what="one")
    assert stage.run.broker("main-sentinel-2").alive


def test_two_of_three_sentinels_dead_is_no_failover(set_up: SetUp) -> None:
    stage = set_up(topology="sentinel", down_after=0.3)
    for number in (1, 2):
        stage.chaos.kill(broker=f"main-sentinel-{number}")
    stage.chaos.kill(broker="main")
    stage.chaos.wait(at="sentinel", timeout=30)  # it has seen the death
    stage.run.let_pass(3)
    assert stage.broker is stage.run.broker("main-1")
    assert not stage.chaos.history.of("promoted")


def test_replicas_copy_without_anybody_who_watches(set_up: SetUp) -> None:
    stage = set_up(topology="replicas", replicas=1, password=True)
    client: Any = stage.outside(3, single_connection_client=True)
    client.set("key", "value")
    assert client.wait(1, 5000) == 1
    replica = stage.run.broker("main-2")
    assert replica.client(3).get("key") == b"value"
    with pytest.raises(redis.ReadOnlyError):
        replica.client(3).set("key", "other")
    with pytest.raises(UsageError, match="it has no Sentinels"):
        stage.chaos.failover(broker="main")


def test_one_server_has_no_failover(set_up: SetUp) -> None:
    with pytest.raises(UsageError, match=r"(?s)one server.*topology: sentinel"):
        set_up().chaos.failover(broker="main")
