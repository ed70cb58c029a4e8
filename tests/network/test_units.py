"""Whose a reply is, at any time: pipelines, transactions, subscriptions, pushes, clients that want none."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.brokers.wire import Wire, record
from pytest_celery_chaos.network.units import INNER, Conversation, Seen


@pytest.fixture
def talk() -> Conversation:
    return Conversation(Seen(Wire(record(Naming()))))


def ask(talk: Conversation, *lines: str) -> list[str | None]:
    """Send commands; the roles of what their replies complete."""
    found = []
    for line in lines:
        args = [word.encode() for word in line.split(" ")]
        unit = talk.request(args, len(args))
        if unit is not None:
            talk.pending.append(unit)
        found.append(None if unit is None else "inner" if unit is INNER else unit.role)
    return found


def hear(talk: Conversation, *replies: bytes) -> list[str | None]:
    """Receive replies; the command of what each completes."""
    found = []
    for reply in replies:
        unit = talk.reply(reply)
        found.append(None if unit is None else "inner" if unit is INNER else unit.command.decode())
    return found


def test_replies_come_in_the_order_of_requests(talk: Conversation) -> None:
    ask(talk, "PING", "GET a", "LPUSH celery x")
    assert hear(talk, b"+PONG\r\n", b"$-1\r\n", b":1\r\n") == ["PING", "GET", "LPUSH"]
    assert hear(talk, b"-ERR nobody has asked\r\n") == [None]


def test_a_transaction_is_one_unit(talk: Conversation) -> None:
    told = ask(talk, "MULTI", "ZADD unacked_index 1 t", "HSET unacked t []", "EXEC", "PING")
    assert told == ["inner", "inner", "inner", "record", "handshake"]
    assert hear(talk, b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"*2\r\n:1\r\n:1\r\n", b"+PONG\r\n") == [
        "inner", "inner", "inner", "MULTI", "PING",
    ]  # fmt: skip
    assert talk.seen.counts == {"record": 1, "handshake": 1}


def test_an_acknowledgement_after_watch_is_a_restore(talk: Conversation) -> None:
    ack = ("MULTI", "ZREM unacked_index t", "HDEL unacked t", "EXEC")
    assert ask(talk, *ack)[-1] == "ack"
    assert ask(talk, "WATCH unacked", "HGET unacked t", *ack)[-1] == "restore"
    assert ask(talk, *ack)[-1] == "ack", "EXEC has ended the watch"
    assert ask(talk, "WATCH unacked", "UNWATCH", *ack)[-1] == "ack"
    assert ask(talk, "WATCH mine", *ack)[-1] == "ack"


def test_whose_an_acknowledgement_is_was_said_by_its_record(talk: Conversation) -> None:
    talk.seen.eager = True
    message = '[{"headers":{"task":"add"},"properties":{"correlation_id":"7d1b","delivery_tag":"t"}}]'
    ask(talk, "MULTI", "ZADD unacked_index 1 t", f"HSET unacked t {message}", "EXEC")
    ask(talk, "MULTI", "ZREM unacked_index t", "HDEL unacked t", "EXEC")
    units = [unit for unit in talk.pending if unit is not INNER]
    assert [(unit.role, unit.task, unit.name, unit.tag) for unit in units] == [
        ("record", b"7d1b", b"add", b"t"),
        ("ack", b"7d1b", b"add", b"t"),
    ]


def test_the_database_is_the_one_that_is_selected(talk: Conversation) -> None:
    ask(talk, "GET a", "SELECT 3", "GET a", "MULTI", "SELECT 4", "EXEC", "GET a", "RESET", "GET a")
    assert [unit.db for unit in talk.pending if unit.command == b"GET"] == [0, 3, 4, 0]


def message(word: bytes, *rest: bytes, kind: bytes = b"*") -> bytes:
    parts = [word, *rest]
    return kind + b"%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def confirmed(word: bytes, count: int, kind: bytes = b"*", name: bytes | None = b"c") -> bytes:
    told = b"$%d\r\n%s\r\n" % (len(name), name) if name is not None else b"$-1\r\n"
    return kind + b"3\r\n$%d\r\n%s\r\n" % (len(word), word) + told + b":%d\r\n" % count


@pytest.mark.parametrize("kind", [b"*", b">"])
def test_subscriptions_and_messages(talk: Conversation, kind: bytes) -> None:
    ask(talk, "SUBSCRIBE a b", "PSUBSCRIBE p*")
    assert hear(talk, confirmed(b"subscribe", 1, kind), confirmed(b"subscribe", 2, kind)) == [None, "SUBSCRIBE"]
    assert hear(talk, message(b"message", b"a", b"x", kind=kind)) == [None]
    assert hear(talk, confirmed(b"psubscribe", 3, kind)) == ["PSUBSCRIBE"]
    ask(talk, "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE", "GET a")
    assert hear(talk, message(b"pong", b"")) == ["PING"]
    assert hear(talk, message(b"pmessage", b"p*", b"p", b"message", kind=kind)) == [None]
    assert hear(talk, confirmed(b"unsubscribe", 2, kind), confirmed(b"unsubscribe", 1, kind)) == [None, "UNSUBSCRIBE"]
    assert hear(talk, confirmed(b"punsubscribe", 0, kind)) == ["PUNSUBSCRIBE"]
    assert hear(talk, message(b"message", b"is", b"a value")) == ["GET"], "nothing is subscribed to any more"


def test_unsubscribing_from_nothing_is_confirmed_once(talk: Conversation) -> None:
    ask(talk, "UNSUBSCRIBE", "PING")
    assert hear(talk, confirmed(b"unsubscribe", 0, name=None), b"+PONG\r\n") == ["UNSUBSCRIBE", "PING"]


def test_a_refused_subscription_is_one_reply(talk: Conversation) -> None:
    ask(talk, "SUBSCRIBE a b c", "PING")
    assert hear(talk, b"-NOAUTH Authentication required.\r\n", b"+PONG\r\n") == ["SUBSCRIBE", "PING"]


def test_a_subscription_to_more_channels_than_are_kept(talk: Conversation) -> None:
    unit = talk.request([b"SUBSCRIBE", *[b"c"] * 23], 101)
    assert unit is not None
    talk.pending.append(unit)
    assert hear(talk, *(confirmed(b"subscribe", n) for n in range(1, 101))) == [None] * 99 + ["SUBSCRIBE"]


def test_kombus_unsubscribe_after_its_psubscribe(talk: Conversation) -> None:
    ask(talk, "PSUBSCRIBE /0.celery.pidbox", "UNSUBSCRIBE /0.celery.pidbox", "PING")
    assert hear(talk, confirmed(b"psubscribe", 1), confirmed(b"unsubscribe", 1), message(b"pong", b"")) == [
        "PSUBSCRIBE", "UNSUBSCRIBE", "PING",
    ]  # fmt: skip


def test_pushes_are_nobodys_reply(talk: Conversation) -> None:
    ask(talk, "HELLO 3", "CLIENT TRACKING ON", "GET a", "GET a")
    hear(talk, b"%0\r\n", b"+OK\r\n", b"$1\r\nx\r\n")
    assert hear(talk, b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", b"$1\r\ny\r\n") == [None, "GET"]


def test_what_monitor_prints_is_nobodys_reply(talk: Conversation) -> None:
    ask(talk, "MONITOR", "PING")
    assert hear(talk, b"+OK\r\n", b'+1700000000.1 [0 127.0.0.1:1] "GET" "a"\r\n', b"+PONG\r\n") == [
        "MONITOR", None, "PING",
    ]  # fmt: skip


def test_clients_that_want_no_reply(talk: Conversation) -> None:
    ask(talk, "CLIENT REPLY SKIP", "GET a", "GET b", "CLIENT REPLY OFF", "GET c", "MULTI", "GET d", "EXEC")
    ask(talk, "CLIENT REPLY ON", "GET e")
    assert [unit.key for unit in talk.pending] == [b"b", b"REPLY", b"e"]


def test_a_replica_is_no_conversation(talk: Conversation) -> None:
    ask(talk, "PSYNC ? -1")
    assert talk.blind


def test_commands_that_nobody_knows_are_counted_and_shown(talk: Conversation) -> None:
    ask(talk, "SET idempotency-1 1", "SET idempotency-1 1", "MULTI", "INCR mine", "GET mine", "EXEC")
    assert talk.seen.unknown == {"SET idempotency-1": 2, "MULTI INCR GET mine": 1}
    assert talk.seen.counts["other"] == 3
