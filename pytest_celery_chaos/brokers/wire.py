"""What a command on its way to a server is to Celery: the role of each that kombu and the result backend send.

The other half of what is known of kombu's layout (`keys.py`, `roles.py`): there what lies on a server, here what goes
there. Read out of kombu and Celery 5.3 to 5.7. Standard library alone and little of it, since the proxy's process
imports it: an application's names arrive there as the plain record that :func:`record` makes of a `Naming`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.brokers.keys import BINDING, RESULT, result_prefix
from pytest_celery_chaos.history.wire import ROLES

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.roles import Naming

#: Of the commands in one MULTI … EXEC, the first of these that occurs is the unit's role.
_ORDER: Final = (
    *(
        "record",
        "restore",
        "ack",
        "publish",
        "reply",
        "chord_part",
        "chord_finish",
        "chord_join",
        "chord_claim",
        "chord_size",
    ),
    *("store", "store_group", "bind", "unbind", "delete_queue", "declare", "lookup"),
    *(role for role in ROLES if role != "other"),
)
_RANK: Final = {role: number for number, role in enumerate(dict.fromkeys([*_ORDER, "other"]))}
_LAST: Final = len(_RANK)
_RESTORED: Final = frozenset({"ack", "publish"})
_HANDSHAKE: Final = frozenset(
    b"PING HELLO AUTH CLIENT SELECT INFO ECHO QUIT RESET READONLY READWRITE ASKING COMMAND CONFIG ROLE".split()
)
_SCRIPTS: Final = frozenset({b"EVALSHA", b"EVAL", b"EVALSHA_RO", b"EVAL_RO", b"FCALL", b"FCALL_RO"})
_LISTEN: Final = frozenset(b"SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE".split())
_CHORD: Final = (b".j", b".d", b".t", b".s", b".c")

_BY_KIND: Final[Mapping[str, Mapping[str, str]]] = {
    "queue": {
        "LPUSH RPUSH": "publish", "BRPOP": "pop", "RPOP": "get", "LLEN EXISTS PEXPIRE": "declare", "DEL": "delete_queue"
    },
    "pidbox": {
        "LPUSH RPUSH": "reply", "BRPOP RPOP": "wait_reply", "LLEN EXISTS PEXPIRE": "declare", "DEL": "delete_queue"
    },
    "unacked": {"HSET": "record", "HDEL": "ack", "WATCH HGET": "restore_read"},
    "unacked_index": {"ZADD": "record", "ZREM": "ack", "ZRANGE ZREVRANGEBYSCORE ZRANGEBYSCORE": "sweep_scan"},
    "unacked_mutex": {"SET": "sweep", "SCRIPT GET DEL": "sweep_end"},
    "binding": {"SADD SCRIPT": "bind", "SREM DEL": "unbind", "SMEMBERS": "lookup"},
    "binding_deadlines": {"SCRIPT": "unbind"},
    "result": {
        "SETEX SET PSETEX PUBLISH EXPIRE": "store", "GET MGET": "read_result", "DEL": "forget"
    },
    "group": {"SETEX SET PSETEX PUBLISH EXPIRE": "store_group", "GET MGET": "read_group", "DEL": "forget"},
    # Before 5.7 a part is RPUSH or ZADD .j with LLEN or ZCOUNT .j, GET .t and .s, EXPIRE of each, in one MULTI.
    ".j": {
        "SCRIPT RPUSH ZADD LLEN ZCOUNT EXPIRE": "chord_part", "ZRANGE LRANGE": "chord_join", "DEL": "chord_finish"
    },
    ".d": {"DEL": "chord_finish"},
    ".t": {"INCR INCRBY": "chord_size", "GET EXPIRE": "chord_part", "DEL": "chord_finish"},
    ".s": {"SET SETEX": "chord_size", "GET EXPIRE": "chord_part", "DEL": "chord_finish"},
    ".c": {"SCRIPT": "chord_finish", "DEL": "chord_size"},
}  # fmt: skip
_ROLE_OF: Final = {
    (command.encode(), kind): role
    for kind, commands in _BY_KIND.items()
    for words, role in commands.items()
    for command in words.split()
}
_REMEMBERED: Final = 4096
#: What a message says of itself, in kombu's JSON; inside `unacked` the same in a list.
_ID: Final = re.compile(rb'"correlation_id": ?"([^"\\]{1,200})"')
_NAME: Final = re.compile(rb'"task": ?"([^"\\]{1,200})"')
_TAG: Final = re.compile(rb'"delivery_tag": ?"([^"\\]{1,200})"')
_PART: Final = re.compile(rb'\[1, ?"([^"\\]{1,200})"')


def record(naming: Naming) -> dict[str, Any]:
    """The names of an application as :class:`Wire` takes them: JSON."""
    from pytest_celery_chaos.brokers import roles

    return {
        "queues": sorted(naming.queues),
        "sep": naming.sep,
        "prefix": naming.prefix,
        "unacked": naming.unacked,
        "unacked_index": naming.unacked_index,
        "unacked_mutex": naming.unacked_mutex,
        "result": result_prefix(naming.backend_prefix) + RESULT,
        "group": result_prefix(naming.backend_prefix) + roles.GROUP,
        "statedb": naming.statedb,
        "harness": roles.HARNESS,
        "bindings": [naming.prefix + BINDING, naming.prefix + roles.BINDING_PERMANENT],
        "binding_deadlines": naming.prefix + roles.BINDING_DEADLINES,
    }


class Wire:
    """Tells the roles of one application's commands.

    :param names: of :func:`record`. Where no queues are given, every list that is nothing else is taken for one.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        bytes_of = {name: value.encode() for name, value in names.items() if isinstance(value, str)}
        self._queues = frozenset(queue.encode() for queue in names["queues"])
        self._sep, self._prefix = bytes_of["sep"], bytes_of["prefix"]
        self._result, self._group = bytes_of["result"], bytes_of["group"]
        self._begin = {bytes_of["harness"]: "harness", bytes_of["statedb"]: "statedb"}
        self._begin |= dict.fromkeys([binding.encode() for binding in names["bindings"]], "binding")
        self._exact = {self._prefix + bytes_of[name]: name for name in ("unacked", "unacked_index", "unacked_mutex")}
        self._exact[bytes_of["binding_deadlines"]] = "binding_deadlines"
        self._known: dict[tuple[bytes, bytes], str] = {}

    def role(self, command: bytes, args: Sequence[bytes]) -> str:
        """The role of one command. Those of a MULTI … EXEC are put together by :func:`joined`.

        :param command: its name in capitals.
        :param args: all that is known of it, its name among them.
        """
        key = args[1] if len(args) > 1 else b""
        known = self._known.get((command, key))
        if known is not None:
            return known
        if key.startswith(self._result) and (role := _ROLE_OF.get((command, "result"))) is not None:
            return role
        if command in _SCRIPTS:
            key = args[3] if len(args) > 3 else b""
            if key.endswith(b".c") and args[2] == b"2":
                return "chord_claim"
            return self._role(b"SCRIPT", key)
        role = self._role(command, key)
        if not key.startswith((self._result, self._group)):
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            self._known[command, key] = role
        return role

    def _role(self, command: bytes, key: bytes) -> str:
        if command in _HANDSHAKE:
            return "handshake"
        if command == b"SCRIPT" and key.upper() in (b"LOAD", b"EXISTS", b"FLUSH"):
            return "script"
        if command == b"UNWATCH":
            return "restore_read"
        kind = self.kind(key)
        if kind in ("harness", "statedb"):
            return kind
        if command in _LISTEN:
            return "listen_result" if kind in ("result", "group") else "listen"
        if command in (b"PUBLISH", b"SPUBLISH") and kind not in ("result", "group"):
            return _channel(key[len(self._prefix) :] if key.startswith(self._prefix) else key)
        return _ROLE_OF.get((command, kind), "other")

    def kind(self, key: bytes) -> str:
        """What a key is: ``queue``, ``unacked`` …, ``result``, ``.j``; ``other``."""
        if key.startswith(self._result):
            return "result"
        if key.startswith(self._group):
            return key[-2:].decode() if key.endswith(_CHORD) else "group"
        if (exact := self._exact.get(key)) is not None:
            return exact
        for begin, kind in self._begin.items():
            if key.startswith(begin):
                return kind
        if not key or not key.startswith(self._prefix):
            return "other"
        name = key[len(self._prefix) :]
        queue = name.rpartition(self._sep)[0] or name
        if queue.endswith(b".pidbox"):
            return "pidbox"
        return "queue" if not self._queues or queue in self._queues else "other"

    def task(self, role: str, command: bytes, args: Sequence[bytes]) -> bytes | None:
        """The id of the task that a command is about, where it says so: not that of an acknowledgement."""
        if role in ("publish", "record", "reply"):
            return message(args[-1])[0] if command in (b"LPUSH", b"RPUSH", b"HSET") else None
        if role in ("store", "read_result", "listen_result", "forget"):
            key = args[1] if len(args) > 1 else b""
            return key[len(self._result) :] if key.startswith(self._result) else None
        if role == "chord_part":
            if command in (b"ZADD", b"RPUSH"):
                found = _PART.search(args[-1])
                return found and found[1]
            if command in _SCRIPTS and args[2].isdigit() and len(args) > 3 + int(args[2]):
                return args[3 + int(args[2])]
        return None

    @staticmethod
    def tag(command: bytes, args: Sequence[bytes]) -> bytes | None:
        """The delivery tag of one command of a record, an acknowledgement or a restore."""
        if command in (b"HSET", b"HDEL", b"HGET", b"ZREM") and len(args) > 2:
            return args[2]
        return None


def message(head: bytes) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Task id, task name and delivery tag of a message, or of a reply with one in it, as far as *head* has them."""
    task, name, tag = _ID.search(head), _NAME.search(head), _TAG.search(head)
    return task and task[1], name and name[1], tag and tag[1]


def joined(role: str, other: str, watched: bool) -> str:
    """The role of a MULTI … EXEC that has been *role* so far, with one more command of the role *other*.

    :param watched: a WATCH of `unacked` came before it.
    """
    if watched and other in _RESTORED:
        other = "restore"
    return role if _RANK.get(role, _LAST) <= _RANK[other] else other


def _channel(channel: bytes) -> str:
    """The role of a PUBLISH: ``/0.celeryev/worker.heartbeat`` is exchange and routing key behind the fanout prefix."""
    exchange, _, routing_key = channel.rpartition(b"/")
    if not exchange:
        exchange, routing_key = routing_key, b""
    if exchange.endswith(b".pidbox"):
        return "control"
    if exchange.endswith(b"celeryev"):
        return "heartbeat" if routing_key == b"worker.heartbeat" else "event"
    return "fanout"
