"""Faults of links: what a plain client that goes through one sees of each, and sees no more once it is healed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.system import wait

from .conftest import SetUp, Stage, solo

LINK = "main-broker"


@pytest.fixture(scope="module")
def wired(set_up: SetUp) -> Stage:
    return set_up(plan={"links": [LINK, "main-backend"]})


def client(stage: Stage, link: str = LINK, **options: Any) -> Any:
    """A client through the link, on one connection that it opens now; it tries nothing again."""
    made = redis.Redis(
        port=stage.run.links.proxy.port(link),
        single_connection_client=True,
        **{"socket_timeout": 5, "socket_connect_timeout": 5, "retry": Retry(NoBackoff(), 0), **options},
    )
    made.ping()
    return made


def seconds(call: Callable[[], Any]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def test_a_cut_ends_connections_and_lets_new_ones_through(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.cut(link=LINK)
    assert wired.told("cut")["connections"] >= 1
    with pytest.raises(redis.ConnectionError):
        there.ping()
    assert client(wired).ping()
    wired.run.links.proxy.cut()
    with pytest.raises(FaultWithoutEffect, match="no connection on main-broker"):
        wired.chaos.cut(link=[LINK])


def test_down_refuses_until_it_heals(wired: Stage) -> None:
    there, other = client(wired), client(wired, "main-backend")
    wired.chaos.down(link=LINK, name="away")
    with pytest.raises(redis.ConnectionError):
        there.ping()
    with pytest.raises(redis.ConnectionError):
        client(wired)
    assert other.ping(), "another link goes on"
    wired.chaos.heal(what="away")
    assert client(wired).ping()


@pytest.mark.parametrize("connections", ["old", "new", "all"])
def test_a_freeze_keeps_the_sockets_open(wired: Stage, connections: str) -> None:
    there = client(wired, socket_timeout=0.3)
    wired.chaos.freeze(link=LINK, connections=connections, name="frozen")
    if connections == "new":
        assert there.ping()
    else:
        with pytest.raises(redis.TimeoutError):
            there.ping()
    if connections == "old":
        assert client(wired, socket_timeout=0.3).ping()
    else:
        with pytest.raises(redis.TimeoutError):
            client(wired, socket_timeout=0.3)
    wired.chaos.heal(what="frozen")
    assert client(wired).ping()


def test_a_freeze_in_one_direction(wired: Stage) -> None:
    there = client(wired, socket_timeout=0.3)
    wired.chaos.freeze(link=LINK, stream="downstream", name="deaf")
    with pytest.raises(redis.TimeoutError):
        there.set("deaf", "1")
    assert wired.outside().get("deaf") == b"1", "the server has seen it"
    wired.chaos.heal(what="deaf")


def test_a_partition_cuts_off_each_of_its_links(wired: Stage) -> None:
    both = [client(wired, link, socket_timeout=0.3) for link in (LINK, "main-backend")]
    wired.chaos.partition(link=[LINK, "main-backend"], name="parted")
    for each in both:
        with pytest.raises(redis.TimeoutError):
            each.ping()
    wired.chaos.heal(what="parted")
    assert client(wired).ping()


def test_latency(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.latency(link=LINK, latency=0.3, name="slow")
    assert seconds(there.ping) >= 0.3
    wired.chaos.heal(what="slow")
    assert seconds(there.ping) < 0.3


def test_bandwidth(wired: Stage) -> None:
    wired.outside().set("large", b"x" * 100_000)
    there = client(wired)
    wired.chaos.bandwidth(link=LINK, rate=200, name="narrow")
    assert seconds(lambda: there.get("large")) >= 0.3
    wired.chaos.heal(what="narrow")
    assert seconds(lambda: there.get("large")) < 0.3


def test_a_slicer_cuts_what_passes_into_pieces(wired: Stage) -> None:
    wired.outside().set("pieces", b"x" * 1000)
    there = client(wired)
    wired.chaos.slicer(link=LINK, average_size=100, delay=0.05, name="sliced")
    assert seconds(lambda: there.get("pieces")) >= 0.3
    wired.chaos.heal(what="sliced")
    assert seconds(lambda: there.get("pieces")) < 0.3


def test_a_timeout_closes_in_the_end(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.timeout(link=LINK, timeout=0.3, name="ends")

    def asked() -> None:
        with pytest.raises(redis.ConnectionError):
            there.ping()

    assert seconds(asked) < 4, "closed, not given up"
    wired.chaos.heal(what="ends")
    assert client(wired).ping()


def test_a_reset_peer_answers_with_a_reset(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.reset_peer(link=LINK, name="reset")
    with pytest.raises(redis.ConnectionError, match="reset"):
        there.ping()
    wired.chaos.heal(what="reset")
    assert client(wired).ping()


def test_data_is_limited(wired: Stage) -> None:
    wired.outside().set("much", b"x" * 5000)
    there = client(wired)
    wired.chaos.limit_data(link=LINK, bytes=1000, name="limited")
    with pytest.raises(redis.ConnectionError):
        there.get("much")
    wired.chaos.heal(what="limited")
    assert len(client(wired).get("much")) == 5000


def test_a_slow_close(wired: Stage) -> None:
    there = client(wired, socket_timeout=10)
    wired.chaos.slow_close(link=LINK, delay=0.5, name="late")

    wired.outside().client_kill_filter(_id=there.client_id())

    def closed() -> None:
        with pytest.raises(redis.ConnectionError):
            there.ping()

    assert seconds(closed) >= 0.4
    wired.chaos.heal(what="late")
    assert client(wired).ping()


def test_a_request_is_dropped_or_its_reply(wired: Stage) -> None:
    direct = wired.outside()
    there = client(wired, socket_timeout=0.3)
    wired.chaos.drop(link=LINK, command="SET", name="lost")
    with pytest.raises(redis.TimeoutError):
        there.set("dropped", "1")
    assert direct.get("dropped") is None
    wired.chaos.heal(what="lost")
    there = client(wired, socket_timeout=0.3)
    wired.chaos.drop(link=LINK, command="SET", stage="reply", key="unheard*", name="unheard")
    assert there.set("heard", "1")
    with pytest.raises(redis.TimeoutError):
        there.set("unheard", "1")
    assert direct.get("unheard") == b"1"
    wired.chaos.heal(what="unheard")
    assert client(wired).set("again", "1")


def test_a_command_is_answered_instead_of_the_server(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.answer(link=LINK, command="SET", answer="-OOM command not allowed", times=None, nth=2, name="full")
    assert there.set("first", "1")
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="command not allowed"):
            there.set("refused", "1")
    assert wired.outside().get("refused") is None
    wired.chaos.heal(what="full")
    assert there.set("refused", "1")


def test_a_command_is_delayed(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.delay(link=LINK, seconds=0.3, command="SET", name="late")
    assert seconds(lambda: there.set("late", "1")) >= 0.3
    assert seconds(lambda: there.set("late", "2")) < 0.3
    wired.chaos.heal(what="late")


def test_a_command_is_carried_out_twice(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.duplicate(link=LINK, command="INCRBY", name="twice")
    assert there.incr("counted") == 1
    assert wired.outside().get("counted") == b"2"
    assert there.incr("counted") == 3
    wired.chaos.heal(what="twice")


def test_commands_are_written_down_while_it_is_asked_for(wired: Stage) -> None:
    there = client(wired)
    wired.chaos.timeline(link=LINK, role=["publish"], name="seen")
    there.get("celery-task-meta-x")
    there.lpush("celery", "x")
    wait.until(lambda: wired.chaos.history.of("wire_publish", "ok"), what="the event", timeout=10)
    wired.chaos.heal(what="seen")
    there.lpush("celery", "y")
    there.ping()
    events = [e for e in wired.chaos.history.events if e.source == f"link:{LINK}" and e.kind.startswith("wire_")]
    assert {event.kind for event in events if event.attrs.get("command") != "SET"} >= {"wire_publish"}
    assert len(wired.chaos.history.of("wire_publish", "ok")) == 1
    assert not wired.chaos.history.of("wire_read_result")
    wired.outside().delete("celery")


def test_a_rule_that_had_nothing_to_act_on_is_told_of(wired: Stage) -> None:
    wired.chaos.drop(link=LINK, role="store", name="nothing")
    wired.chaos.heal(what="nothing")
    missed = wired.chaos.history.of("missed")[-1]
    assert (missed.attrs["verb"], missed.attrs["moment"]) == ("drop", "store on main-broker")


def test_a_link_that_is_none(wired: Stage) -> None:
    with pytest.raises(UsageError, match=r"there is no link 'a-broker'; links here: main-broker, main-backend") as told:
        wired.chaos.cut(link="a-broker")
    assert "@pytest.mark.chaos(links=" in str(told.value.hint)
    with pytest.raises(UsageError, match="expected the role of a command"):
        wired.chaos.drop(link=LINK, role="publich")


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_worker_is_known_by_its_connections_through_a_link(set_up: SetUp, pool: str) -> None:
    links = ["a-broker", "a-backend"]
    stage = set_up(workers=[solo("a", pool=pool), solo("b")], plan={"links": links})
    ports = {each["server"] for each in stage.run.links.proxy.connections(links=["a-broker"])}
    stage.chaos.client_kill(worker="a", blocked=True)
    told = stage.told("client_kill")["connections"]
    assert {int(each["addr"].rpartition(":")[2]) for each in told} <= ports
    wait.until(lambda: not stage.run.environment.busy_consumers(), what="both to wait again", timeout=20)
    job = stage.publish()
    wait.until(lambda: stage.chaos.history.of("ack", "ok"), what=f"{job} to be done", timeout=20)
    event = stage.run.measure("now")
    assert {"worker:a", "worker:b"} <= {each["process"] for each in event.attrs["clients"]}
