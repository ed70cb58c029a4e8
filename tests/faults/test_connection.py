"""Faults of connections and credentials, seen from outside: by CLIENT LIST, and by what a client is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pytest_celery_chaos.brokers.keys import pending_brpop
from pytest_celery_chaos.clients.spec import BeatSpec, EntrySpec
from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.system import wait

from .conftest import SERVERS, SetUp, Stage, solo


@pytest.fixture(scope="module")
def two(set_up: SetUp) -> Stage:
    return set_up(workers=[solo("a"), solo("b", pool="prefork")])


def others(stage: Stage) -> dict[str, dict[str, str]]:
    """The connections that are not the harness's, by their id."""
    listed: list[dict[str, str]] = stage.run.redis().client_list()
    return {each["id"]: each for each in listed if each.get("user") == "default"}


def consumers(stage: Stage, count: int) -> Any:
    """Wait until so many connections wait in BRPOP, and return them all."""
    return wait.until(
        lambda: len(pending_brpop(stage.run.redis())) >= count and others(stage), what="consumers", timeout=20
    )


def test_all_connections_are_closed_at_once_but_the_harnesss(two: Stage) -> None:
    before, own = consumers(two, 2), two.run.redis().client_id()
    two.chaos.client_kill()
    assert not before.keys() & others(two).keys()
    assert two.run.redis().client_id() == own
    consumers(two, 2)


@pytest.mark.parametrize(("type", "flag"), [("pubsub", True), ("normal", False)])
def test_connections_of_a_type(two: Stage, type: str, flag: bool) -> None:
    before = consumers(two, 2)
    two.chaos.client_kill(type=type)
    gone = before.keys() - others(two).keys()
    meant = {number for number, each in before.items() if ("P" in each["flags"]) is flag}
    assert gone == meant
    assert len(gone) >= 2
    consumers(two, 2)


def test_connections_of_one_worker(two: Stage) -> None:
    consumers(two, 2)
    of_a, of_b = (address_of(two, name) for name in ("a", "b"))
    two.chaos.client_kill(worker="a", blocked=True)
    addresses = {each["addr"] for each in others(two).values()}
    assert of_a not in addresses
    assert of_b in addresses
    told = two.told("client_kill")["connections"]
    assert [(each["addr"], each["cmd"]) for each in told] == [(of_a, "brpop")]
    consumers(two, 2)


def address_of(stage: Stage, worker: str) -> str:
    """The newest address that a worker consumes from."""
    events = [e for e in stage.chaos.history.of("consuming") if e.source == f"worker:{worker}"]
    return str(events[-1].attrs["address"])


def test_no_such_connection(two: Stage) -> None:
    with pytest.raises(FaultWithoutEffect, match="client:main has no such connection to broker 'main'"):
        two.chaos.client_kill(client="main")
    with pytest.raises(FaultWithoutEffect, match="worker:a has no such connection"):
        two.chaos.client_kill(worker="a", db=9)
    with pytest.raises(UsageError, match="name one process, or none"):
        two.chaos.client_kill(client="main", worker="a")


def test_connections_of_one_client_or_of_one_database(two: Stage) -> None:
    consumers(two, 2)
    two.chaos.send(task="add", name="job")
    two.chaos.get(task="job")
    before = consumers(two, 2)
    two.chaos.client_kill(client="main", type="normal", db=0)
    gone = set(before) - set(others(two))
    assert gone
    assert {before[each]["db"] for each in gone} == {"0"}
    before = consumers(two, 2)
    two.chaos.client_kill(db=1)
    gone = set(before) - set(others(two))
    assert gone == {number for number, each in before.items() if each["db"] == "1"} != set()
    two.chaos.send(task="add", name="more")
    two.chaos.get(task="more")
    assert two.chaos.history.of("get", "ok")
    consumers(two, 2)


def test_connections_of_a_beat(set_up: SetUp) -> None:
    entry = EntrySpec("add", every=0.2)
    stage = set_up(plan={"beats": {"ticker": BeatSpec("ticker", schedule={"tick": entry})}})
    stage.chaos.wait(after="publish", beat="ticker")
    with stage.outside() as bystander:
        bystander.ping()
        stage.chaos.client_kill(beat="ticker")
        killed = {each["addr"] for each in stage.told("client_kill")["connections"]}
        published = len(stage.chaos.history.of("publish", "ok", source="beat:ticker"))
        after = others(stage)
        assert killed
        assert not killed & {each["addr"] for each in after.values()}
        assert bystander.client_id() in map(int, after)
    stage.chaos.wait(after="publish", beat="ticker", nth=published + 2)


def test_on_a_unix_socket_all_or_nobody(set_up: SetUp) -> None:
    stage = set_up(socket=True)
    with pytest.raises(UsageError, match="reached by its unix socket"):
        stage.chaos.client_kill(client="main")
    connected = stage.outside()
    connected.ping()
    before = others(stage)
    assert before
    stage.chaos.client_kill()
    assert not before.keys() & others(stage).keys()


@pytest.fixture(scope="module", params=SERVERS)
def server_only(set_up: SetUp, request: pytest.FixtureRequest) -> Stage:
    return set_up(server=request.param, password=True)


@pytest.fixture
def bare(server_only: Stage) -> Iterator[Stage]:
    yield server_only
    server_only.run.heal()


def test_a_paused_server_answers_nobody_until_it_is_healed(bare: Stage) -> None:
    bare.chaos.client_pause(name="silence")
    for command in (lambda c: c.ping(), lambda c: c.get("key"), lambda c: c.set("key", "value")):
        with pytest.raises(redis.TimeoutError):
            command(bare.outside(socket_timeout=0.3))
    bare.chaos.heal(what="silence")
    assert bare.outside().set("key", "value")
    assert bare.run.redis().info("clients")["connected_clients"] < 20


def test_a_server_paused_for_writes_answers_reads(bare: Stage) -> None:
    bare.outside().set("key", "value")
    bare.chaos.client_pause(mode="write", name="silence")
    assert bare.outside().get("key") == b"value"
    with pytest.raises(redis.TimeoutError):
        bare.outside(socket_timeout=0.3).set("key", "other")
    assert bare.run.keys()["mutex"] is False, "the harness's reads go on"
    bare.chaos.heal(what="silence")
    assert bare.outside().set("key", "other")


def test_a_snapshot_waits_for_a_paused_server(bare: Stage) -> None:
    bare.chaos.client_pause(for_="1s")
    assert bare.chaos.snapshot()["mutex"] is False
    assert bare.chaos.history.of("heal", "ok")


def test_a_pause_ends_with_its_server(bare: Stage) -> None:
    bare.chaos.client_pause(name="silence")
    bare.chaos.restart(broker="main")
    bare.chaos.heal(what="silence")
    assert bare.outside().ping()


def test_a_changed_password_is_asked_of_who_connects_anew(bare: Stage) -> None:
    connected = bare.outside()
    connected.ping()
    bare.chaos.credentials(password=True, name="rotated")
    assert connected.set("key", "value"), "who has authenticated stays"
    with pytest.raises(redis.AuthenticationError):
        bare.outside().ping()
    assert bare.run.redis().ping()
    assert bare.broker.client(0).ping(), "a new connection of the harness's"
    bare.chaos.heal(what="rotated")
    assert bare.outside().ping()


def test_connections_can_be_closed_with_it(bare: Stage) -> None:
    connected = bare.outside()
    connected.ping()
    bare.chaos.credentials(password=True, client_kill=True, name="rotated")
    assert bare.told("credentials")["connections"] >= 1
    with pytest.raises(redis.ConnectionError):
        connected.ping()
    assert bare.run.redis().ping()
    bare.chaos.heal(what="rotated")
    assert connected.ping()


def test_narrower_rules_are_felt_at_once(bare: Stage) -> None:
    connected = bare.outside()
    connected.lpush("celery", "message")
    bare.chaos.credentials(rules=["-brpop", "-rpop", "resetkeys", "~celery"], name="narrow")
    for refused in (lambda: connected.rpop("celery"), lambda: connected.get("other")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            refused()
    assert connected.llen("celery") == 1
    bare.chaos.heal(what="narrow")
    assert connected.rpop("celery") == b"message"
    assert connected.get("other") is None


def test_credentials_that_cannot_be_meant(bare: Stage) -> None:
    with pytest.raises(UsageError, match="changes nothing"):
        bare.chaos.credentials()
    with pytest.raises(UsageError, match="does not take these rules"):
        bare.chaos.credentials(rules=["+no-such-command"])


def test_a_server_without_password_gets_one(set_up: SetUp) -> None:
    stage = set_up()
    stage.chaos.credentials(password=True, name="closed")
    with pytest.raises(redis.AuthenticationError):
        stage.outside().ping()
    stage.chaos.heal(what="closed")
    assert stage.outside().ping()
