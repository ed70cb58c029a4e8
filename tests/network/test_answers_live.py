"""Answers that the server never gave, seen by a client; and that the server was spared."""

from __future__ import annotations

import pytest
import redis

from .conftest import Wired, until_eof
from .frames import command


def lines(*commands: bytes) -> bytes:
    return b"".join(command(*each.split(b" ")) for each in commands)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("-LOADING Redis is loading the dataset in memory", redis.BusyLoadingError),
        ("-READONLY You can't write against a read only replica.", redis.ReadOnlyError),
        ("-OOM command not allowed when used memory > 'maxmemory'.", redis.OutOfMemoryError),
    ],
)
def test_answer_instead_of_the_server(wired: Wired, answer: str, error: type[Exception]) -> None:
    client = wired.client()
    wired.proxy.arm("answer", role="publish", answer=answer)
    with pytest.raises(error):
        client.lpush("celery", "x")
    assert client.llen("celery") == 0
    assert client.lpush("celery", "y") == 1, "once"
    assert wired.units()[:2] == [("wire_publish", "invoke"), ("wire_publish", "fail")]


def test_answers_keep_their_place_among_the_servers_own(wired: Wired) -> None:
    sock = wired.socket()
    wired.proxy.arm("answer", command="GET", key="b", answer="$4\r\nmine\r\n", times=None)
    sock.sendall(lines(b"SET a 1", b"GET b", b"GET a", b"GET b", b"GET b", b"PING"))
    sock.sendall(lines(b"GET b", b"QUIT"))
    mine = b"$4\r\nmine\r\n"
    assert until_eof(sock) == b"+OK\r\n" + mine + b"$1\r\n1\r\n" + mine + mine + b"+PONG\r\n" + mine + b"+OK\r\n"


def test_the_reply_can_be_another(wired: Wired) -> None:
    client = wired.client()
    wired.proxy.arm("answer", command="INCRBY", when="reply", answer=":77\r\n")
    assert client.incr("a") == 77
    assert client.get("a") == b"1"


def test_a_whole_transaction_is_answered_at_its_exec(wired: Wired) -> None:
    wired.direct().hset("unacked", "t", "x")
    client = wired.client()
    wired.proxy.arm("answer", role="ack", answer="-READONLY You can't write against a read only replica.")
    pipe = client.pipeline().zrem("unacked_index", "t").hdel("unacked", "t")
    with pytest.raises(redis.ReadOnlyError):
        pipe.execute()
    assert wired.direct().hlen("unacked") == 1
    assert client.pipeline().zrem("unacked_index", "t").hdel("unacked", "t").execute() == [0, 1]


def test_an_error_to_one_command_of_a_transaction_aborts_it(wired: Wired) -> None:
    client = wired.client()
    wired.proxy.arm("answer", command="ZADD", multi=True, answer="-OOM command not allowed when used memory.")
    pipe = client.pipeline().zadd("unacked_index", {"t": 1}).hset("unacked", "t", "x")
    with pytest.raises(redis.OutOfMemoryError):
        pipe.execute()
    assert wired.direct().hlen("unacked") == 0
    pipe = client.pipeline().zadd("unacked_index", {"t": 1}).hset("unacked", "t", "x")
    assert pipe.execute() == [1, 1], "the connection is in no transaction"


def test_an_exec_alone_is_answered(wired: Wired) -> None:
    client = wired.client()
    wired.proxy.arm("answer", command="EXEC", answer="-EXECABORT mine")
    with pytest.raises(redis.exceptions.ExecAbortError):
        client.pipeline().set("a", 1).execute()
    assert client.get("a") is None
    assert client.pipeline().set("a", 1).execute() == [True]
