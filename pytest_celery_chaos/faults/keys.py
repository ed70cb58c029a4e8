"""Which keys a fault of data means: chosen by their role for Celery, and narrowed by whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.keys import message_id, unacked_id
from pytest_celery_chaos.brokers.roles import STATEDB_DB, Key, Naming, scan, text
from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.brokers.keyspace import Keyspace
    from pytest_celery_chaos.engine.run import Run

PartName: TypeAlias = Literal["j", "t", "s", "d", "c"]

_BACKEND: Final = frozenset({"result", "group", "chord"})
#: Roles whose keys hold many messages: of one task it is an entry that is meant, not the key.
_SHARED: Final = frozenset({"queue", "unacked", "unacked_index"})


@dataclass
class Chosen:
    """A key that a fault acts on.

    :param client: a ``redis.Redis`` that answers in bytes; its annotations differ from one version to the next.
    :param entries: the elements that are meant (of a list), or fields (of a hash), or members (of a sorted set); None:
        the whole key.
    """

    client: Any
    key: bytes
    what: Key
    entries: list[bytes] | None = None

    @property
    def name(self) -> str:
        return text(self.key)


@dataclass(frozen=True)
class Narrowing:
    """Which keys of a role, all of them where nothing is said."""

    task: str | None = None
    queue: str | None = None
    exchange: str | None = None
    worker: str | None = None
    app: str | None = None
    part: str | None = None
    ids: frozenset[str] = field(default_factory=frozenset)
    groups: frozenset[str] = field(default_factory=frozenset)


def choose(run: Run, role: str, **narrowing: str | None) -> list[Chosen]:
    """The keys of *role*, or the entries in them, that a step means.

    :param narrowing: the fields of :class:`Narrowing`, as the step gives them.
    :raises FaultWithoutEffect: there is none now; a fault that did nothing must not count as applied.
    :raises UsageError: the narrowing makes no sense for the role.
    :raises NoAnswer: the server does not answer.
    """
    wanted = _checked(run, role, narrowing)
    found: list[Chosen] = []
    with answering():
        for client, naming in _places(run, role, wanted.app):
            for key, what in scan(client, naming):
                if what.role == role and _meant(run, what, wanted):
                    chosen = Chosen(client, key.encode() if isinstance(key, str) else key, what)
                    if role not in _SHARED or wanted.task is None or _entries(chosen, wanted.ids, naming):
                        found.append(chosen)
    if not found:
        said = ", ".join(f"{name} {value!r}" for name, value in narrowing.items() if value is not None)
        raise FaultWithoutEffect(
            f"no key with role {role!r}{f' of {said}' if said else ''} is there now",
            where=run.step.place,
            hint="wait for the moment when there is one (`when:`, or a `wait` before the step)",
        )
    return found


def _checked(run: Run, role: str, narrowing: dict[str, str | None]) -> Narrowing:
    allowed = {
        "queue": {"queue", "task"},
        "unacked": {"task"},
        "unacked_index": {"task"},
        "binding": {"exchange"},
        "binding_permanent": {"exchange"},
        "result": {"task"},
        "group": {"task"},
        "chord": {"task", "part"},
        "statedb": {"worker", "part"},
    }
    given = {name for name, value in narrowing.items() if value is not None}
    if wrong := sorted(given - allowed.get(role, set()) - {"app"}):
        raise UsageError(
            f"keys of role {role!r} cannot be narrowed by {wrong[0]!r}",
            where=run.step.place,
            hint=f"by {' or '.join(sorted(allowed.get(role, set()) | {'app'}))}",
        )
    task = narrowing.get("task")
    ids = frozenset(run.ids_of(task)) if task is not None else frozenset()
    published = run.live.read() if role in ("group", "chord") and task is not None else ()
    groups = frozenset(
        str(event.attrs["group"]) for event in published if event.task in ids and event.attrs.get("group")
    )
    return Narrowing(ids=ids, groups=groups, **narrowing)


def _places(run: Run, role: str, app: str | None) -> Iterator[tuple[Redis, Naming]]:
    """The databases that may hold keys of the role, each once, and how they are called there."""
    if role == "statedb":
        servers = dict.fromkeys(worker.spec.statedb_server for worker in run.environment.workers.values())
        yield from ((run.redis(server, STATEDB_DB), Naming()) for server in servers)
        return
    queues, seen = run.queues(), set()
    for space in run.keyspaces():
        if app is not None and space.app != app:
            continue
        server, db, prefix = space.results if role in _BACKEND else space.messages
        if (server, db, prefix) not in seen:
            seen.add((server, db, prefix))
            yield run.redis(server, db), naming_of(space, queues.get(space.messages, ()))


def naming_of(space: Keyspace, queues: Sequence[str]) -> Naming:
    """How an application's keys are called."""
    return Naming(queues, space.prefix, space.result_prefix)


def _meant(run: Run, what: Key, wanted: Narrowing) -> bool:
    if wanted.queue is not None and what.of != wanted.queue:
        return False
    if wanted.exchange is not None and what.of != wanted.exchange:
        return False
    if wanted.part is not None and (what.part or "").lstrip(".") != wanted.part:
        return False
    if wanted.worker is not None and what.of != node_name(run, wanted.worker):
        return False
    if wanted.task is None or what.role in _SHARED:
        return True
    return what.of in (wanted.groups if what.role in ("group", "chord") else wanted.ids)


def node_name(run: Run, worker: str) -> str:
    """By which name Celery knows a worker."""
    spec = run.worker(worker).spec
    return spec.hostname or f"{spec.name}@chaos"


def _entries(chosen: Chosen, ids: frozenset[str], naming: Naming) -> bool:
    """Find the entries of these tasks in a key that holds many tasks' messages; False where there is none."""
    client, key = chosen.client, chosen.key
    if chosen.what.role == "queue":
        chosen.entries = [each for each in client.lrange(key, 0, -1) if message_id(each) in ids]
    elif chosen.what.role == "unacked":
        chosen.entries = tags_of(client, key, ids)
    else:
        tags = set(tags_of(client, f"{naming.prefix}{naming.unacked}", ids))
        chosen.entries = [tag for tag in client.zrange(key, 0, -1) if tag in tags]
    return bool(chosen.entries)


def tags_of(client: Any, unacked: bytes | str, ids: frozenset[str]) -> list[bytes]:
    """The delivery tags of these tasks' unacknowledged messages."""
    found: dict[bytes, bytes] = client.hgetall(unacked)
    return [tag for tag, value in found.items() if unacked_id(value) in ids]


def each(chosen: Sequence[Chosen], act: Callable[[Chosen], int]) -> int:
    """Do something to every chosen key; returns how many keys or entries it has changed.

    :raises NoAnswer: the server does not answer.
    """
    with answering():
        return sum(act(one) for one in chosen)
