"""The roles of commands on the wire, as kombu and Celery 5.3 to 5.7 send them, under every way of naming keys."""

from __future__ import annotations

import json

import pytest

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.brokers.wire import Wire, joined, message, record
from pytest_celery_chaos.history.wire import ROLES

META = "celery-task-meta-7d1b"
GROUP = "celery-taskset-meta-9c2e"
REPLIES = "3f2b8a52-6e0f-4b0c-9a57-1b1b1b1b1b1b.reply.celery.pidbox"

COMMANDS = [
    ("LPUSH celery {}", "publish"),
    ("LPUSH celery\x06\x163 {}", "publish"),
    ("RPUSH orders {}", "publish"),
    ("BRPOP celery celery\x06\x163 1", "pop"),
    ("RPOP celery", "get"),
    ("BRPOP " + REPLIES + " 1", "wait_reply"),
    ("LPUSH " + REPLIES + " {}", "reply"),
    ("ZADD unacked_index 1.5 tag", "record"),
    ("HSET unacked tag []", "record"),
    ("ZREM unacked_index tag", "ack"),
    ("HDEL unacked tag", "ack"),
    ("WATCH unacked", "restore_read"),
    ("HGET unacked tag", "restore_read"),
    ("UNWATCH", "restore_read"),
    ("SET unacked_mutex token NX PX 300000", "sweep"),
    ("ZRANGE unacked_index 1700000000 0 BYSCORE REV LIMIT 0 10 WITHSCORES", "sweep_scan"),
    ("ZREVRANGEBYSCORE unacked_index 1700000000 0 LIMIT 0 10 WITHSCORES", "sweep_scan"),
    ("EVALSHA sha 1 unacked_mutex token", "sweep_end"),
    ("SADD _kombu.binding.celery member", "bind"),
    ("SADD _kombu.binding_permanent.celery member", "bind"),
    ("EVALSHA sha 2 _kombu.binding.celery _kombu.binding_deadlines member celery 60000", "bind"),
    ("EVALSHA sha 1 _kombu.binding_deadlines _kombu.binding. _kombu.binding_permanent. 100", "unbind"),
    ("SREM _kombu.binding.celery member", "unbind"),
    ("SMEMBERS _kombu.binding.celery", "lookup"),
    ("LLEN celery", "declare"),
    ("PEXPIRE celery 1000", "declare"),
    ("DEL celery", "delete_queue"),
    (f"SETEX {META} 86400 {{}}", "store"),
    (f"SET {META} {{}}", "store"),
    (f"PUBLISH {META} {{}}", "store"),
    (f"GET {META}", "read_result"),
    (f"MGET {META} {META}", "read_result"),
    (f"SUBSCRIBE {META}", "listen_result"),
    (f"UNSUBSCRIBE {META}", "listen_result"),
    (f"DEL {META}", "forget"),
    (f"SETEX {GROUP} 86400 {{}}", "store_group"),
    (f"GET {GROUP}", "read_group"),
    (f"SETEX {GROUP}.s 86400 2", "chord_size"),
    (f"INCRBY {GROUP}.t 1", "chord_size"),
    (f"DEL {GROUP}.c", "chord_size"),
    (f"EVALSHA sha 6 {GROUP}.j {GROUP}.t {GROUP}.s {GROUP}.d {GROUP} {GROUP}.c 7d1b [] 1 0", "chord_part"),
    (f"ZADD {GROUP}.j 0 []", "chord_part"),
    (f"RPUSH {GROUP}.j []", "chord_part"),
    (f"ZRANGE {GROUP}.j 0 -1", "chord_join"),
    (f"LRANGE {GROUP}.j 0 2", "chord_join"),
    (f"EVALSHA sha 2 {GROUP}.c {GROUP}.s token 10", "chord_claim"),
    (f"EVALSHA sha 5 {GROUP}.c {GROUP}.j {GROUP}.t {GROUP}.s {GROUP}.d token 300", "chord_finish"),
    (f"EVALSHA sha 1 {GROUP}.c token", "chord_finish"),
    (f"DEL {GROUP}.j", "chord_finish"),
    ("PUBLISH /0.celery.pidbox {}", "control"),
    ("PUBLISH /15.celeryev/worker.heartbeat {}", "heartbeat"),
    ("PUBLISH /0.celeryev/worker.online {}", "event"),
    ("PUBLISH /0.celeryev/task.received {}", "event"),
    ("PUBLISH /0.news/a.b {}", "fanout"),
    ("PUBLISH celery.pidbox {}", "control"),
    ("PSUBSCRIBE /0.celery.pidbox /0.celeryev/worker.#", "listen"),
    ("UNSUBSCRIBE /0.celery.pidbox", "listen"),
    ("SCRIPT LOAD return", "script"),
    ("HELLO 3", "handshake"),
    ("CLIENT SETINFO LIB-NAME redis-py", "handshake"),
    ("SELECT 1", "handshake"),
    ("SET celery:worker:state:a@host:revoked x", "statedb"),
    ("SET celery-chaos:filler x", "harness"),
    ("SET idempotency-1 1", "other"),
    ("FLUSHALL", "other"),
]  # fmt: skip


def args(line: str) -> list[bytes]:
    return [word.encode() for word in line.split(" ")]


def role(line: str, naming: Naming | None = None) -> str:
    words = args(line)
    return Wire(record(naming or Naming())).role(words[0], words)


@pytest.mark.parametrize(("line", "wanted"), COMMANDS)
def test_the_role_of_a_command(line: str, wanted: str) -> None:
    assert role(line) == wanted
    wire = Wire(record(Naming()))
    assert {wire.role(args(line)[0], args(line)) for _ in range(2)} == {wanted}, "what is remembered is the same"


def test_every_role_of_one_command_is_in_the_table() -> None:
    assert {wanted for _, wanted in COMMANDS} == ROLES.keys() - {"restore"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("LPUSH shop:celery {}", "publish"),
        ("LPUSH celery {}", "other"),
        ("ZADD shop:pending_index 1 tag", "record"),
        ("HDEL shop:pending tag", "ack"),
        ("HDEL unacked tag", "other"),
        ("SET shop:lock token", "sweep"),
        ("SADD shop:_kombu.binding.celery member", "bind"),
        ("EVALSHA sha 1 shop:_kombu.binding_deadlines shop:_kombu.binding. 100", "unbind"),
        ("SETEX res_celery-task-meta-1 60 {}", "store"),
        ("SETEX celery-task-meta-1 60 {}", "other"),
        ("EVALSHA sha 6 res_celery-taskset-meta-1.j a b c d e", "chord_part"),
        ("PUBLISH shop:/0.celery.pidbox {}", "control"),
    ],
)
def test_prefixes_and_renamed_keys(line: str, wanted: str) -> None:
    naming = Naming(
        queues=["celery"],
        prefix="shop:",
        backend_prefix="res",
        unacked="pending",
        unacked_index="pending_index",
        unacked_mutex="lock",
    )
    assert role(line, naming) == wanted


def test_where_queues_are_known_no_other_list_is_one() -> None:
    naming = Naming(queues=["orders"])
    assert role("LPUSH orders {}", naming) == "publish"
    assert role("LPUSH orders\x06\x169 {}", naming) == "publish"
    assert role("LPUSH jobs {}", naming) == "other"
    assert role("LPUSH orders:9 {}", Naming(queues=["orders"], sep=":")) == "publish"


@pytest.mark.parametrize(
    ("lines", "watched", "wanted"),
    [
        (["ZADD unacked_index 1 tag", "HSET unacked tag []"], False, "record"),
        (["ZREM unacked_index tag", "HDEL unacked tag"], False, "ack"),
        (["ZREM unacked_index tag", "HDEL unacked tag", "LPUSH celery {}"], True, "restore"),
        (["ZREM unacked_index tag", "HDEL unacked tag"], True, "restore"),
        (["HDEL unacked tag", "LPUSH celery {}"], True, "restore"),
        (["SETEX celery-task-meta-1 60 {}", "PUBLISH celery-task-meta-1 {}"], False, "store"),
        (["LPUSH celery {}", "PEXPIRE celery 1000"], False, "publish"),
        (["LLEN celery", "DEL celery", "LLEN celery\x06\x163", "DEL celery\x06\x163"], False, "delete_queue"),
        (["LLEN celery", "LLEN celery\x06\x163"], False, "declare"),
        (["SADD _kombu.binding.a m", "SADD _kombu.binding_permanent.a m"], False, "bind"),
        ([f"ZADD {GROUP}.j 0 []", f"ZCOUNT {GROUP}.j -inf +inf", f"GET {GROUP}.t", f"GET {GROUP}.s",
          f"EXPIRE {GROUP}.j 60"], False, "chord_part"),
        ([f"ZRANGE {GROUP}.j 0 -1"], False, "chord_join"),
        ([f"DEL {GROUP}.j", f"DEL {GROUP}.t", f"DEL {GROUP}.s"], False, "chord_finish"),
        (["SET mine 1", "GET mine"], False, "other"),
    ],
)  # fmt: skip
def test_the_role_of_a_transaction(lines: list[str], watched: bool, wanted: str) -> None:
    for order in (lines, lines[::-1]):
        unit = ""
        for line in order:
            unit = joined(unit, role(line), watched)
        assert unit == wanted


def test_what_a_message_says_of_itself() -> None:
    body = {
        "body": "W1tdLCB7fV0=",
        "headers": {"lang": "py", "task": "add", "id": "7d1b", "root_id": "7d1b"},
        "properties": {"correlation_id": "7d1b", "delivery_tag": "t-1"},
    }
    raw = json.dumps(body).encode()
    assert message(raw) == (b"7d1b", b"add", b"t-1")
    assert message(json.dumps([body, "", "celery"]).encode()) == (b"7d1b", b"add", b"t-1")
    assert message(b"*2\r\n$6\r\ncelery\r\n$9\r\n" + raw) == (b"7d1b", b"add", b"t-1")
    assert message(b"anything") == (None, None, None)


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ([b"LPUSH", b"celery", b'{"properties": {"correlation_id": "7d1b"}}'], b"7d1b"),
        ([b"HSET", b"unacked", b"t-1", b'[{"properties": {"correlation_id": "7d1b"}}, "", "celery"]'], b"7d1b"),
        ([b"SETEX", META.encode(), b"60", b"{}"], b"7d1b"),
        ([b"GET", META.encode()], b"7d1b"),
        ([b"EVALSHA", b"sha", b"2", f"{GROUP}.j".encode(), f"{GROUP}.t".encode(), b"7d1b", b"[]"], b"7d1b"),
        ([b"ZADD", f"{GROUP}.j".encode(), b"0", b'[1, "7d1b", "SUCCESS", 2]'], b"7d1b"),
        ([b"ZREM", b"unacked_index", b"t-1"], None),
        ([b"BRPOP", b"celery", b"1"], None),
    ],
)
def test_whose_a_command_is(words: list[bytes], task: bytes | None) -> None:
    wire = Wire(record(Naming()))
    assert wire.task(wire.role(words[0], words), words[0], words) == task
