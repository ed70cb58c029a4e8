"""Which key of a server is what to Celery: every key that kombu, the result backend and statedb write has a role.

Sources: ``kombu.transport.redis.Channel`` (queues, unacked, bindings, pidbox replies), ``celery.backends.base`` and
``celery.backends.redis`` (results, groups, chords), ``celery_redis_statedb`` (revoked ids). Plain text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pytest_celery_chaos.brokers.keys import BINDING, RESULT, SEP, UNACKED, UNACKED_INDEX, UNACKED_MUTEX, result_prefix

if TYPE_CHECKING:
    from redis import Redis

#: What a fault of data can be about.
RoleName: TypeAlias = Literal[
    "queue",
    "unacked",
    "unacked_index",
    "unacked_mutex",
    "binding",
    "binding_permanent",
    "binding_deadlines",
    "reply",
    "result",
    "group",
    "chord",
    "statedb",
]
Role: TypeAlias = RoleName | Literal["harness", "other"]

BINDING_PERMANENT: Final = "_kombu.binding_permanent."
BINDING_DEADLINES: Final = "_kombu.binding_deadlines"
#: A saved group, and with a suffix what a chord keeps of its parts.
GROUP: Final = "celery-taskset-meta-"
#: A chord's counter on result backends that have no way of their own (Celery's ``chord_keyprefix``).
CHORD_UNLOCK: Final = "chord-unlock-"
#: Results, counted task ids, difference to the size, size, claim (Celery 5.7; before it without ``.d`` and ``.c``).
CHORD_PARTS: Final = (".j", ".d", ".t", ".s", ".c")
STATEDB: Final = "celery:worker:state:"
#: Where `statedb: redis` keeps it: the last of a server's databases, so that no application's keys lie among it.
STATEDB_DB: Final = 15
#: Begins every key that the harness itself writes: never foreign, never left behind by anybody under test.
HARNESS: Final = "celery-chaos:"

_REPLY: Final = re.compile(r"(?P<asker>[0-9a-f-]{36})\.reply\.(?P<exchange>.+)\.pidbox")


@dataclass(frozen=True)
class Key:
    """What one key is.

    :param role: its role; ``other`` is nobody's that we know, ``harness`` is our own.
    :param of: whose it is: the queue, the exchange, the task's or group's id, the asker's id, the worker's node name.
    :param part: of a ``chord``: which of :data:`CHORD_PARTS`, or ``unlock``; of a ``queue`` or ``reply``: its
        priority step; of a ``statedb``: what is kept.
    """

    role: Role
    of: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Naming:
    """By which names one application's keys are called.

    :param queues: the queues that are known; no other list is taken for a queue.
    :param prefix: the broker's ``global_keyprefix``.
    :param backend_prefix: the result backend's, as it is set.
    :param statedb: key prefix of celery-redis-statedb (``redis_state_key_prefix``).
    :param sep: kombu's transport option ``sep``, between a queue and its priority step.
    """

    queues: Collection[str] = ()
    prefix: str = ""
    backend_prefix: str = ""
    statedb: str = STATEDB
    sep: str = SEP
    unacked: str = UNACKED
    unacked_index: str = UNACKED_INDEX
    unacked_mutex: str = UNACKED_MUTEX

    @classmethod
    def of(cls, config: Mapping[str, object], queues: Collection[str] = ()) -> Naming:
        """The naming that Celery settings (``broker_transport_options`` …) ask for."""
        options, backend = (
            value if isinstance(value := config.get(f"{which}_transport_options"), Mapping) else {}
            for which in ("broker", "result_backend")
        )
        names = {name: str(options[f"{name}_key"]) for name in _UNACKED if f"{name}_key" in options}
        return cls(
            queues=queues,
            prefix=str(options.get("global_keyprefix") or ""),
            backend_prefix=str(backend.get("global_keyprefix") or ""),
            statedb=str(config.get("redis_state_key_prefix") or STATEDB),
            sep=str(options.get("sep") or SEP),
            **names,
        )

    def key(self, key: str) -> Key:
        """What *key* is, told by its name alone."""
        if key.startswith(HARNESS):
            return Key("harness", part=key[len(HARNESS) :])
        if key.startswith(self.statedb):
            worker, _, part = key[len(self.statedb) :].rpartition(":")
            return Key("statedb", worker, part)
        found = self._of_backend(key, result_prefix(self.backend_prefix)) or self._of_broker(key, self.prefix)
        return found or Key("other")

    def _of_backend(self, key: str, prefix: str) -> Key | None:
        if not key.startswith(prefix):
            return None
        name = key[len(prefix) :]
        if name.startswith(RESULT):
            return Key("result", name[len(RESULT) :])
        if name.startswith(CHORD_UNLOCK):
            return Key("chord", name[len(CHORD_UNLOCK) :], "unlock")
        if not name.startswith(GROUP):
            return None
        of = name[len(GROUP) :]
        return Key("chord", of[:-2], of[-2:]) if of.endswith(CHORD_PARTS) else Key("group", of)

    def _of_broker(self, key: str, prefix: str) -> Key | None:
        if not key.startswith(prefix):
            return None
        name = key[len(prefix) :]
        for role in _UNACKED:
            if name == getattr(self, role):
                return Key(role)
        if name == BINDING_DEADLINES:
            return Key("binding_deadlines")
        if name.startswith(BINDING):
            return Key("binding", name[len(BINDING) :])
        if name.startswith(BINDING_PERMANENT):
            return Key("binding_permanent", name[len(BINDING_PERMANENT) :])
        queue, _, step = name.rpartition(self.sep) if self.sep in name else (name, "", "0")
        if queue in self.queues:
            return Key("queue", queue, step)
        reply = _REPLY.fullmatch(queue)
        return Key("reply", reply["asker"], step) if reply else None


_UNACKED: Final = ("unacked", "unacked_index", "unacked_mutex")


def role_of(key: str | bytes, naming: Naming | None = None) -> Role:
    """The role of *key*; see :class:`Naming`."""
    return (naming or Naming()).key(text(key)).role


def scan(client: Redis, naming: Naming) -> Iterator[tuple[bytes | str, Key]]:
    """Every key of the client's database as the server has it, and what it is (SCAN: never KEYS, which blocks).

    :raises redis.RedisError: the server does not answer.
    """
    for key in client.scan_iter(match="*", count=1000):
        yield key, naming.key(text(key))


def text(key: str | bytes) -> str:
    """A key as text; bytes that are no UTF-8 are shown as such and can be told apart."""
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
