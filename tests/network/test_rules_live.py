"""What a rule does, seen from outside: with sockets and redis-py before the proxy, and a plain client behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from pytest_celery_chaos.errors import ChaosError, UsageError
from pytest_celery_chaos.system import wait

from .conftest import Wired, until_eof
from .frames import command

Took = Callable[[Callable[[], Any]], float]
ACK = (b"MULTI", b"ZREM unacked_index t", b"HDEL unacked t", b"EXEC")


def lines(*commands: bytes) -> bytes:
    return b"".join(command(*each.split(b" ")) for each in commands)


def later(do: Callable[[], Any]) -> Any:
    return ThreadPoolExecutor(1).submit(do)


@pytest.mark.parametrize("when", ["request", "reply"])
def test_hold_a_request_or_a_reply_until_told(wired: Wired, when: str) -> None:
    client, rule = wired.client(), wired.proxy.arm("hold", role="publish", when=when)
    waiting = later(lambda: client.lpush("celery", "x"))
    rule.wait()
    assert rule.state()["holding"] == 1
    assert wired.direct().llen("celery") == (0 if when == "request" else 1)
    assert not waiting.done()
    assert rule.release() == 1
    assert waiting.result(5) == 1
    assert wired.direct().llen("celery") == 1
    assert wired.units() == [("wire_publish", "invoke"), ("wire_publish", "ok")][when == "reply" :]
    [released] = [event for event in wired.events() if event.kind == "released"]
    assert released.attrs["how"] == "go"
    assert released.source == "link:a"


def test_hold_for_a_time_and_no_longer_than_its_deadline(wired: Wired, took: Took) -> None:
    client = wired.client()
    wired.proxy.arm("hold", command="PING", seconds=0.3)
    assert 0.3 <= took(client.ping) < 2
    wired.proxy.arm("hold", command="PING", deadline=0.2)
    assert 0.2 <= took(client.ping) < 2
    assert [event.attrs["how"] for event in wired.events() if event.kind == "released"] == ["time", "deadline"]


def test_others_go_on_while_one_is_held(wired: Wired) -> None:
    one, other = wired.client(), wired.client()
    rule = wired.proxy.arm("hold", command="GET", key="mine")
    waiting = later(lambda: one.get("mine"))
    rule.wait()
    assert other.set("mine", 1)
    assert other.get("mine") == b"1"
    rule.release()
    assert waiting.result(5) == b"1"


@pytest.mark.parametrize("when", ["request", "reply"])
def test_what_is_held_ends_with_its_client(wired: Wired, when: str) -> None:
    sock, rule = wired.socket(), wired.proxy.arm("hold", role="publish", when=when)
    sock.sendall(command(b"LPUSH", b"celery", b"x"))
    rule.wait()
    sock.close()
    wait.until(lambda: not wired.proxy.connections(), what="the connection to end", timeout=5)
    assert rule.release() == 0
    assert wired.direct().llen("celery") == (0 if when == "request" else 1)
    assert [event.attrs["how"] for event in wired.events() if event.kind == "released"] == ["gone"]
    assert wired.units()[-1] == ("wire_publish", "unknown" if when == "request" else "ok")


def test_a_request_that_is_dropped_never_arrives_and_a_reply_neither(wired: Wired) -> None:
    wired.proxy.arm("drop", role="publish")
    wired.proxy.arm("drop", role="declare", when="reply")
    client = wired.client(socket_timeout=0.3)
    with pytest.raises(redis.TimeoutError):
        client.lpush("celery", "x")
    client = wired.client(socket_timeout=0.3)
    with pytest.raises(redis.TimeoutError):
        client.llen("celery")
    assert wired.client().llen("celery") == 0


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(("when", "there", "said"), [("request", 0, b""), ("reply", 1, b""), ("done", 1, b":1\r\n")])
def test_cut_before_the_request_the_reply_and_after_it(
    wired: Wired, how: Any, when: str, there: int, said: bytes
) -> None:
    sock = wired.socket()
    wired.proxy.arm("cut", role="publish", when=when, how=how)
    sock.sendall(command(b"LPUSH", b"celery", b"x"))
    if how == "fin":
        assert until_eof(sock) == said
    else:
        with pytest.raises(ConnectionResetError):
            until_eof(sock)
    assert wired.direct().llen("celery") == there
    wait.until(lambda: wired.proxy.connections() == [], what="both sides to end", timeout=5)
    assert wired.units()[-1] == ("wire_publish", "unknown" if when == "request" else "ok")


def test_cut_towards_the_client_alone_leaves_the_server_with_a_dead_connection(wired: Wired) -> None:
    sock = wired.socket()
    wired.proxy.arm("cut", role="pop", when="request", side="client")
    sock.sendall(command(b"SET", b"a", b"1"))
    assert sock.recv(100) == b"+OK\r\n"
    sock.sendall(command(b"BRPOP", b"celery", b"0"))
    assert until_eof(sock) == b""
    names = {each["cmd"] for each in wired.direct().client_list() if "celery-chaos" not in each["name"]}
    assert names == {"set"}


def test_a_popped_message_whose_reply_is_cut_is_lost_though_its_brpop_waited_before(wired: Wired) -> None:
    sock = wired.socket()
    sock.sendall(command(b"BRPOP", b"celery", b"0"))
    wait.until(
        lambda: any("b" in each["flags"] for each in wired.direct().client_list()), what="BRPOP to wait", timeout=5
    )
    wired.proxy.arm("cut", role="pop", when="reply", how="rst")
    wired.direct().lpush("celery", "x")
    with pytest.raises(ConnectionResetError):
        sock.recv(100)
    assert wired.direct().llen("celery") == 0


def test_a_pop_that_found_nothing_is_no_pop(wired: Wired) -> None:
    client = wired.client()
    rule = wired.proxy.arm("cut", role="pop", when="reply")
    assert client.brpop("celery", timeout=0.1) is None
    assert rule.state()["seen"] == 0


def test_duplicate_sends_twice_and_swallows_the_second_reply(wired: Wired) -> None:
    client = wired.client()
    wired.proxy.arm("duplicate", role="publish")
    assert client.lpush("celery", "x") == 1
    assert client.llen("celery") == 2
    assert client.lpush("celery", "x") == 3
    wired.proxy.arm("duplicate", role="store")
    wired.direct(0).delete("celery")
    pipe = client.pipeline().set("celery-task-meta-1", "x").publish("celery-task-meta-1", "x")
    assert pipe.execute() == [True, 0]
    assert client.ping()


def test_delay(wired: Wired, took: Took) -> None:
    client = wired.client()
    wired.proxy.arm("delay", command="GET", seconds=0.2, times=2)
    wired.proxy.arm("delay", command="SET", seconds=0.2, when="reply")
    assert 0.2 <= took(lambda: client.get("a")) < 2
    assert 0.2 <= took(lambda: client.get("a")) < 2
    assert 0.2 <= took(lambda: client.set("a", 1)) < 2
    assert took(lambda: client.get("a")) < 0.2


@pytest.mark.parametrize("parts", [1, 4])
def test_a_transaction_is_held_as_one_in_one_piece_or_typed(wired: Wired, parts: int) -> None:
    """Typed command by command it is known at its EXEC what it is: nothing has happened even then."""
    wired.direct().hset("unacked", "t", "x")
    sock, rule = wired.socket(), wired.proxy.arm("hold", role="ack")
    if parts == 1:
        sock.sendall(lines(*ACK))
    else:
        for each, answer in zip(ACK, (b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b""), strict=True):
            sock.sendall(lines(each))
            assert sock.recv(100) == answer if answer else True
    rule.wait()
    assert wired.direct().hlen("unacked") == 1
    rule.release()
    wait.until(lambda: wired.direct().hlen("unacked") == 0, what="EXEC", timeout=5)
    assert sock.recv(200).endswith(b"*2\r\n:0\r\n:1\r\n")


def test_a_rule_armed_within_a_transaction_and_within_a_command(wired: Wired) -> None:
    sock = wired.socket()
    sock.sendall(lines(b"MULTI", b"SET a 1"))
    assert sock.recv(100) == b"+OK\r\n+QUEUED\r\n"
    raw = lines(b"EXEC")
    sock.sendall(raw[:7])
    wait.until(
        lambda: any(each["qbuf"] != "0" for each in wired.direct().client_list() if not each["name"]),
        what="half an EXEC to arrive",
        timeout=5,
    )
    rule = wired.proxy.arm("cut", command="EXEC")
    sock.sendall(raw[7:])
    assert sock.recv(100) == b"*1\r\n+OK\r\n"
    sock.sendall(lines(b"MULTI", b"SET b 1", b"EXEC"))
    until_eof(sock)
    assert rule.state()["seen"] == 1, "the EXEC that had begun is let alone"
    assert wired.direct().mget("a", "b") == [b"1", None]


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"command": "get"}, 3),
        ({"key": "a*"}, 2),
        ({"key": "b"}, 1),
        ({"db": 0}, 3),
        ({"db": 1}, 0),
        ({"command": "GET", "nth": 2}, 2),
        ({"command": "GET", "nth": 2, "times": 1}, 1),
        ({"contains": "aa"}, 1),
        ({"role": "other"}, 3),
        ({"multi": True}, 0),
        ({"links": ["a"]}, 3),
        ({"links": []}, 0),
    ],
)
def test_which_units_a_rule_means(wired: Wired, fields: dict[str, Any], meant: int) -> None:
    client = wired.client()
    client.ping()
    rule = wired.proxy.arm("watch", **{"times": None, "command": "GET", **fields})
    for key in ("a", "aa", "b"):
        client.get(key)
    assert rule.state()["acted"] == meant
    assert len(wired.units()) == 2 * meant
    last = rule.disarm()
    client.get("a")
    assert last["acted"] == meant
    assert len(wired.units()) == 2 * meant


def test_the_task_that_a_unit_is_about(wired: Wired) -> None:
    client = wired.client()
    message = '{"headers": {"task": "add"}, "properties": {"correlation_id": "%s", "delivery_tag": "t"}}'
    rules = [wired.proxy.arm("watch", role=role, task="id-2", times=None) for role in ("publish", "store", "ack")]
    pops = wired.proxy.arm("watch", role="pop", when="reply", name="add", task="id-2", times=None)
    for task in ("id-1", "id-2"):
        client.lpush("celery", message % task)
        client.brpop("celery")
        client.pipeline().zadd("unacked_index", {task: 1}).hset("unacked", task, message % task).execute()
        client.set(f"celery-task-meta-{task}", "x", ex=60)
        client.pipeline().zrem("unacked_index", task).hdel("unacked", task).execute()
    assert [rule.state()["acted"] for rule in (*rules, pops)] == [1, 1, 1, 1]
    assert {event.task for event in wired.events() if event.kind.startswith("wire_")} == {"id-2"}


def test_the_timeline(wired: Wired) -> None:
    client = wired.client()
    client.ping()
    wired.proxy.timeline()
    client.lpush("celery", "x")
    client.brpop("celery")
    client.pipeline().zrem("unacked_index", "t").hdel("unacked", "t").execute()
    units = [unit for unit in wired.units() if unit[0] != "wire_handshake"]
    assert units == [(f"wire_{role}", p) for role in ("publish", "pop", "ack") for p in ("invoke", "ok")]
    wired.proxy.timeline(["pop"])
    client.lpush("celery", "x")
    client.brpop("celery")
    assert wired.units()[-3:] == [("wire_ack", "ok"), ("wire_pop", "invoke"), ("wire_pop", "ok")]
    wired.proxy.timeline(None)
    client.brpop("celery", timeout=0.05)
    assert wired.units()[-1] == ("wire_pop", "ok")
    [hello] = [event for event in wired.events() if event.kind == "hello"]
    assert hello.attrs["role"] == "link"
    assert [event.n for event in wired.events()] == list(range(len(wired.events())))


def test_pushes_and_hello_in_mid_stream(wired: Wired) -> None:
    wired.direct().set("a", 1)
    rule = wired.proxy.arm("hold", command="GET", when="reply", seconds=0.05, times=None)
    sock = wired.socket()
    sock.sendall(lines(b"HELLO 3", b"CLIENT TRACKING ON", b"GET a"))
    wait.until(lambda: rule.state()["seen"] == 1, what="GET to be answered", timeout=5)
    wired.direct().set("a", 2)
    sock.sendall(lines(b"GET a", b"QUIT"))
    said = until_eof(sock)
    assert said.endswith(b"$1\r\n2\r\n+OK\r\n")
    assert said.count(b">2\r\n$10\r\ninvalidate\r\n") == 1
    assert rule.state()["seen"] == 2


def test_subscribers_hear_and_their_commands_are_told_apart(wired: Wired) -> None:
    client = wired.client()
    pubsub = redis.Redis(port=wired.port).pubsub()
    rule = wired.proxy.arm("delay", role="listen", seconds=0.01, when="reply", times=None)
    pubsub.psubscribe("/0.celery.pidbox")
    pubsub.subscribe("/0.news", "/0.other")
    assert [pubsub.get_message(timeout=5)["type"] for _ in range(3)] == ["psubscribe", "subscribe", "subscribe"]
    client.publish("/0.news", "x")
    assert pubsub.get_message(timeout=5)["data"] == b"x"
    assert rule.state()["seen"] == 2
    pubsub.close()


def test_wrong_rules_are_refused(wired: Wired) -> None:
    for wrong in (
        {"do": "explode"},
        {"do": "hold", "role": "popp"},
        {"do": "hold", "when": "never"},
        {"do": "delay"},
        {"do": "answer"},
        {"do": "duplicate", "when": "reply"},
        {"do": "hold", "links": ["b"]},
    ):
        with pytest.raises(UsageError):
            wired.proxy.arm(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        wired.proxy.link("a", ("127.0.0.1", 1))


def test_a_proxy_that_dies_is_told(wired: Wired) -> None:
    from pytest_celery_chaos.network.proxy import Proxy

    other = Proxy(wired.proxy._keeper, wired.proxy.log.parent)
    other.child.signal(9)
    other.child.wait(5)
    with pytest.raises(ChaosError, match="died"):
        other.stats()
    other.close()


def test_two_hundred_connections_at_once(wired: Wired) -> None:
    wired.proxy.timeline(["publish"])
    socks = [wired.socket() for _ in range(200)]
    for number, sock in enumerate(socks):
        sock.sendall(command(b"LPUSH", b"celery", b"%d" % number))
    assert all(sock.recv(100).startswith(b":") for sock in socks)
    assert wired.direct().llen("celery") == 200
    assert len({each["client"] for each in wired.proxy.connections()}) == 200
    assert wired.proxy.stats()["a"]["units"]["publish"] == 200


def test_a_connection_can_be_told_by_its_port_at_the_server(wired: Wired) -> None:
    port = wired.proxy.link("tcp", ("127.0.0.1", wired.server.port))
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    sock.sendall(command(b"CLIENT", b"SETNAME", b"mine"))
    assert sock.recv(100) == b"+OK\r\n"
    [mine] = [each for each in wired.direct().client_list() if each["name"] == "mine"]
    [seen] = wired.proxy.connections(links=["tcp"])
    assert mine["addr"] == f"127.0.0.1:{seen['server']}"
    assert seen["client"] == sock.getsockname()[1]
    sock.close()
