"""Garbage: what is written over Celery's keys, and how it is found and taken away again."""

from __future__ import annotations

from typing import Any, Final

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.roles import HARNESS
from pytest_celery_chaos.faults.keys import Chosen

#: Neither JSON nor anything else that kombu or a result backend could read.
GARBAGE: Final = f"\xff{HARNESS}garbage".encode("latin-1")


def garble(one: Chosen) -> int:
    """Replace the values in a key by garbage, one step for everybody who looks (MULTI)."""
    kind = bytes(one.client.type(one.key))
    pipe = one.client.pipeline(transaction=True)
    if kind == b"string":
        pipe.set(one.key, GARBAGE, keepttl=True, xx=True)
    elif kind == b"list":
        items: list[bytes] = one.client.lrange(one.key, 0, -1)
        for index, item in enumerate(items):
            if one.entries is None or item in one.entries:
                pipe.lset(one.key, index, GARBAGE)
    elif kind == b"hash":
        for name in one.entries or one.client.hkeys(one.key):
            pipe.hset(one.key, name, GARBAGE)
    else:
        _garble_members(one, kind, pipe)
    return sum(answer is not None and answer is not False for answer in pipe.execute())


def _garble_members(one: Chosen, kind: bytes, pipe: Any) -> None:
    """Of a set or a sorted set: another member in the place of each, with its score."""
    if kind == b"set":
        members = [(member, 0.0) for member in one.client.smembers(one.key)]
    else:
        members = list(one.client.zrange(one.key, 0, -1, withscores=True))
    for number, (member, score) in enumerate(members):
        if one.entries is not None and member not in one.entries:
            continue
        garbage = GARBAGE + b"-%d" % number
        if kind == b"set":
            pipe.srem(one.key, member)
            pipe.sadd(one.key, garbage)
        else:
            pipe.zrem(one.key, member)
            pipe.zadd(one.key, {garbage: score})


def retype(one: Chosen) -> int:
    kind, left = bytes(one.client.type(one.key)), int(one.client.pttl(one.key))
    if kind == b"none":
        return 0
    pipe = one.client.pipeline(transaction=True)
    pipe.delete(one.key)
    if kind == b"string":
        pipe.rpush(one.key, GARBAGE)
    else:
        pipe.set(one.key, GARBAGE)
    if left > 0:
        pipe.pexpire(one.key, left)
    pipe.execute()
    return 1


def clear(chosen: list[Chosen]) -> None:
    """Delete what is still garbage, and leave what has been written since."""
    with answering():
        for one in chosen:
            client, key = one.client, one.key
            kind = bytes(client.type(key))
            if kind == b"string":
                if client.get(key) == GARBAGE:
                    client.delete(key)
            elif kind == b"list":
                client.lrem(key, 0, GARBAGE)
            elif kind == b"hash":
                values: dict[bytes, bytes] = client.hgetall(key)
                if names := [name for name, value in values.items() if value == GARBAGE]:
                    client.hdel(key, *names)
            elif kind == b"set":
                if members := [member for member in client.smembers(key) if member.startswith(GARBAGE)]:
                    client.srem(key, *members)
            elif kind == b"zset":
                ranked: list[bytes] = client.zrange(key, 0, -1)
                if members := [member for member in ranked if member.startswith(GARBAGE)]:
                    client.zrem(key, *members)
