"""The layout of kombu's keys, and of Celery's results, on a Redis server; known in this module alone.

Everything here is plain reads of existing keys: a look through Celery (``inspect()``) would itself sweep the
unacked index, and be a fault. One key per queue and priority step holds its waiting messages; a message that a
worker has received lies in the hash ``unacked``, with the time of its receipt in the sorted set ``unacked_index``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis import Redis

#: Between a queue and its priority step (kombu's ``sep`` transport option, by default).
SEP: Final = "\x06\x16"
#: kombu's default ``priority_steps``; 0 has no suffix and is consumed first.
STEPS: Final = (0, 3, 6, 9)
UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
UNACKED_MUTEX: Final = "unacked_mutex"
BINDING: Final = "_kombu.binding."
RESULT: Final = "celery-task-meta-"
#: Stands for the id of a message that has none, or that cannot be read.
UNREADABLE: Final = "?"


def queue_keys(queue: str, steps: Sequence[int] = STEPS, *, prefix: str = "", sep: str = SEP) -> list[str]:
    """The lists of a queue, in the order in which workers consume them."""
    return [f"{prefix}{queue}{sep}{step}" if step else f"{prefix}{queue}" for step in steps]


def result_prefix(prefix: str) -> str:
    """What Celery puts before a result's key for the backend's ``global_keyprefix`` (it adds a ``_`` of its own)."""
    return f"{prefix}_" if prefix and prefix[-1] not in ":_-." else prefix


def message_id(message: str | bytes | dict[str, Any]) -> str:
    """The task id of a message as it stands in a queue; :data:`UNREADABLE` where there is none to be found."""
    try:
        parsed = message if isinstance(message, dict) else json.loads(message)
        # Protocol 2 has it in the headers; both protocols have it as the correlation id.
        found = (parsed.get("headers") or {}).get("id") or (parsed.get("properties") or {}).get("correlation_id")
    except (ValueError, AttributeError):
        return UNREADABLE
    return str(found) if found else UNREADABLE


def snapshot(
    broker: Redis,
    backend: Redis | None,
    queues: Iterable[str],
    ids: Iterable[str] | None = None,
    prefix: str = "",
    *,
    steps: Sequence[int] = STEPS,
    sep: str = SEP,
    backend_prefix: str = "",
) -> dict[str, Any]:
    """What the broker and the result backend hold now; the broker's part is one moment (MULTI/EXEC).

    :param broker: client of the broker's database, whatever it decodes.
    :param backend: client of the result backend's; None: no results are read.
    :param queues: names of the queues.
    :param ids: tasks whose results are read; None reads every result that there is.
    :param prefix: the broker's ``global_keyprefix``; *backend_prefix* is the backend's, as it is set.
    :param steps: ``priority_steps`` and *sep* ``sep``, where the transport options change them.
    :returns: ``queues`` (name → task ids, the next to be consumed first), ``unacked`` (delivery tag → task id),
        ``index`` (delivery tag → score), ``mutex``, ``bindings`` (exchange → count), ``results`` (id → status), and
        where there are any, ``damaged``: keys of another type than kombu's, which are read as empty.
    :raises redis.RedisError: the server does not answer.
    """
    names = list(dict.fromkeys(queues))
    tables = sorted(_text(key) for key in broker.scan_iter(match=_glob(f"{prefix}{BINDING}") + "*", count=500))
    asked: list[tuple[str, str, Any]] = [
        *(("lrange", key, (0, -1)) for name in names for key in queue_keys(name, steps, prefix=prefix, sep=sep)),
        ("hgetall", f"{prefix}{UNACKED}", ()),
        ("zrange", f"{prefix}{UNACKED_INDEX}", (0, -1, False, True)),
        ("exists", f"{prefix}{UNACKED_MUTEX}", ()),
        *(("scard", table, ()) for table in tables),
    ]
    replies, damaged = _of_their_type([key for _, key, _ in asked], _at_once(broker, asked))
    answers = iter(replies)
    found = {
        # Workers take from the right end of the list, publishers put on the left.
        "queues": {name: [message_id(each) for _ in steps for each in reversed(next(answers) or [])] for name in names},
        "unacked": {_text(tag): unacked_id(value) for tag, value in (next(answers) or {}).items()},
        "index": {_text(tag): float(score) for tag, score in next(answers) or []},
        "mutex": bool(next(answers)),
        "bindings": {table[len(prefix) + len(BINDING) :]: int(next(answers) or 0) for table in tables},
        "results": {} if backend is None else results(backend, ids, backend_prefix),
    }
    return {**found, "damaged": damaged} if damaged else found


def _at_once(client: Redis, asked: Sequence[tuple[str, str, Any]]) -> list[Any]:
    """The answers to commands, all of one moment; errors among them are returned."""
    from redis import OutOfMemoryError

    for transaction in (True, False):
        pipe = client.pipeline(transaction=transaction)
        for command, key, args in asked:
            getattr(pipe, command)(key, *args)
        try:
            return list(pipe.execute(raise_on_error=False))
        except OutOfMemoryError:
            # A full server (before Valkey 8) lets nobody queue even a read in MULTI; one after the other it answers.
            if not transaction:
                raise
    raise AssertionError("unreachable")


def _of_their_type(asked: Sequence[str], answers: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The answers, None for a key of another type than its commands need (WRONGTYPE), and the names of such keys.

    :raises redis.ResponseError: any other error.
    """
    kept, damaged = [], []
    for key, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Exception):
            if not str(answer).startswith("WRONGTYPE"):
                raise answer
            damaged.append(key)
        kept.append(None if isinstance(answer, Exception) else answer)
    return kept, damaged


def empty(snapshot: dict[str, Any]) -> bool:
    """Whether no message is left at the broker: neither waiting nor unacknowledged.

    The mutex does not count: it guards a sweep and holds no message, and one whose owner was killed stays 300 s.
    """
    return not (any(snapshot["queues"].values()) or snapshot["unacked"] or snapshot["index"])


def results(backend: Redis, ids: Iterable[str] | None = None, prefix: str = "") -> dict[str, str]:
    """The status of each result (id → status).

    :param ids: tasks whose results are read; None reads every result that there is.
    :param prefix: the backend's ``global_keyprefix``, as it is set.
    """
    begin = f"{result_prefix(prefix)}{RESULT}"
    if ids is None:
        ids = sorted(_text(key)[len(begin) :] for key in backend.scan_iter(match=_glob(begin) + "*", count=500))
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return {}
    values = backend.mget([f"{begin}{each}" for each in wanted])
    return {each: _status(value) for each, value in zip(wanted, values, strict=True) if value is not None}


def lives(client: Redis) -> dict[str, float]:
    """Every key of a database, and the seconds that it has left to live; -1 where it does not expire (PTTL)."""
    found = sorted(_text(key) for key in client.scan_iter(count=500))
    pipe = client.pipeline(transaction=True)
    for key in found:
        pipe.pttl(key)
    left = zip(found, pipe.execute(), strict=True)
    return {key: ms / 1000 if ms >= 0 else -1 for key, ms in left if ms != -2}  # -2: it has just expired


def pending_brpop(client: Redis) -> list[str]:
    """Addresses of the clients that wait in BRPOP at this moment (CLIENT LIST): consumers ready for a message."""
    clients: list[dict[str, str]] = client.client_list()  # type: ignore[no-untyped-call, unused-ignore]
    # `cmd` is the last command, answered or not; flag `b` says that the client waits in it.
    return [each["addr"] for each in clients if each.get("cmd") == "brpop" and "b" in each.get("flags", "")]


def subscribers(client: Redis, db: int = 0) -> int:
    """How many connections listen to channels by pattern (CLIENT LIST): workers that can hear remote control.

    :param db: only those that have selected this database; kombu has its number in the channels' names.

    Pub/sub keeps nothing: a ``revoke`` published before its worker has subscribed is heard by nobody.
    """
    clients: list[dict[str, str]] = client.client_list()  # type: ignore[no-untyped-call, unused-ignore]
    return sum(each.get("psub", "0") != "0" and each.get("db") == str(db) for each in clients)


def _status(value: str | bytes) -> str:
    try:
        return str(json.loads(value)["status"])
    except (ValueError, KeyError, TypeError):
        return UNREADABLE  # a result_serializer other than JSON


def unacked_id(value: str | bytes) -> str:
    """The task id of an entry of ``unacked``; :data:`UNREADABLE` where there is none to be found."""
    try:
        return message_id(json.loads(value)[0])
    except (ValueError, IndexError, KeyError):
        return UNREADABLE


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _glob(literal: str) -> str:
    """*literal* for MATCH, where ``*?[]\\`` mean something."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in literal)
