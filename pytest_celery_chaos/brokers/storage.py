"""What a server stores for Celery, by role, and who is connected to it: plain reads, bounded for many thousand keys.

SCAN, and for each key a TTL and for some a MEMORY USAGE, pipelined; INFO keyspace says whether any key of many is
without expiry, so that 20,000 results are not asked one by one. CLIENT LIST tells the connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.brokers.keys import SEP
from pytest_celery_chaos.brokers.roles import Naming, text

if TYPE_CHECKING:
    from redis import Redis

#: Roles of keys that a result backend holds; all others but statedb's are a broker's.
_RESULTS: Final = frozenset({"result", "group", "chord"})
#: Roles that grow with the number of tasks; all others are few, and asked each.
_MANY: Final = _RESULTS
#: Of one role, so many keys are asked for their size; the rest is taken to be like them.
_SIZED: Final = 200
#: So many names of one role are told, and so many members of one binding.
_NAMED: Final = 20
_CHUNK: Final = 1000
#: Of CLIENT LIST: to how many channels, patterns and shard channels a connection is subscribed.
_SUBSCRIBED: Final = ("sub", "psub", "ssub")
#: The harness's own connections bear this name.
OURS: Final = "celery-chaos"


@dataclass(frozen=True)
class Tenant:
    """An application that uses a database: by which names, and whether for its messages, its results, or both."""

    naming: Naming
    messages: bool = True
    results: bool = True


@dataclass
class _Found:
    """The keys of one role."""

    keys: list[bytes | str] = field(default_factory=list)
    without: list[bytes | str] = field(default_factory=list)
    sizes: int = 0

    def record(self) -> dict[str, Any]:
        sized = min(len(self.keys), _SIZED)
        about = round(self.sizes * len(self.keys) / sized) if sized else 0
        record: dict[str, Any] = {"keys": len(self.keys), "no_ttl": len(self.without), "bytes": about}
        return record | {"names": sorted(text(key) for key in self.keys)[:_NAMED] if len(self.keys) <= _NAMED else []}


def space(client: Redis, tenants: Sequence[Tenant]) -> dict[str, Any]:
    """What one database holds: by role the count of keys, of those without expiry, and bytes; and the bindings.

    Role ``other`` is what none of the tenants has put there: unknown, outside their prefixes, or a result where they
    keep their messages.

    :param tenants: every application that uses the database; the first that knows a key decides.
    :returns: ``roles`` (role → keys, no_ttl, bytes, names where they are few), ``no_ttl`` (role → some names) and
        ``bindings`` (exchange → members, ``routing key|pattern|queue``). The harness's own keys are left out.
    :raises redis.RedisError: the server does not answer.
    """
    found: dict[str, _Found] = {}
    bindings: dict[str, bytes | str] = {}
    for key in client.scan_iter(match="*", count=_CHUNK):
        role, of = _known(text(key), tenants)
        found.setdefault(role, _Found()).keys.append(key)
        if role == "binding":
            bindings[of or ""] = key
    _expiries(client, found)
    found.pop("harness", None)
    for each in found.values():
        each.sizes = sum(size or 0 for size in _answers(client, "MEMORY USAGE", each.keys[:_SIZED]))
    members = dict(zip(bindings, _answers(client, "SMEMBERS", list(bindings.values())), strict=True))
    return {
        "roles": {role: each.record() for role, each in sorted(found.items())},
        "no_ttl": {role: sorted(map(text, each.without))[:_NAMED] for role, each in found.items() if each.without},
        "bindings": {name: sorted(_member(each) for each in members[name] or ())[:_NAMED] for name in sorted(members)},
    }


def _known(key: str, tenants: Sequence[Tenant]) -> tuple[str, str | None]:
    """The role of a key, and whose it is."""
    for tenant in tenants:
        known = tenant.naming.key(key)
        theirs = tenant.results if known.role in _RESULTS else tenant.messages
        if known.role in ("harness", "statedb") or (known.role != "other" and theirs):
            return known.role, known.of
    return "other", None


def _expiries(client: Redis, found: Mapping[str, _Found]) -> None:
    """Find the keys without expiry. Of the many only where the server's own count says that there are some."""
    few = [role for role in found if role not in _MANY]
    for role in few:
        found[role].without = list(_without(client, found[role].keys))
    if len(few) == len(found):
        return
    database = f"db{client.get_connection_kwargs().get('db', 0)}"
    counts = client.info("keyspace").get(database, {})
    lasting = int(counts.get("keys", 0)) - int(counts.get("expires", 0))
    if lasting > sum(len(found[role].without) for role in few) or not counts:
        for role in found.keys() & _MANY:
            found[role].without = list(_without(client, found[role].keys))


def _without(client: Redis, keys: Sequence[bytes | str]) -> Iterator[bytes | str]:
    # -1: it lasts; -2: it is gone since it was scanned.
    return (key for key, ttl in zip(keys, _answers(client, "PTTL", keys), strict=True) if ttl == -1)


def _answers(client: Redis, command: str, keys: Sequence[bytes | str]) -> Iterator[Any]:
    """What *command* answers for each key; None where the key is of a type that it is not for."""
    for begin in range(0, len(keys), _CHUNK):
        pipe = client.pipeline(transaction=False)
        for key in keys[begin : begin + _CHUNK]:
            pipe.execute_command(*command.split(), key)  # type: ignore[no-untyped-call, unused-ignore]
        for answer in pipe.execute(raise_on_error=False):
            if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
                raise answer
            yield None if isinstance(answer, Exception) else answer


def _member(member: bytes | str) -> str:
    return "|".join(text(member).split(SEP))


def connections(client: Redis, owners: Mapping[int, str]) -> list[dict[str, Any]]:
    """Who is connected to a server, without the harness: counted by process, database and kind.

    :param owners: the process that has a connection open, by the connection's own port.
    :returns: ``process`` (``?`` where it is none of *owners*: a foreigner, or one over a unix socket), ``db``,
        ``kind`` (``blocked`` in BRPOP, ``pubsub``, else ``normal``), ``count``, and of ``pubsub`` ``channels``: how
        many they are subscribed to.
    :raises redis.RedisError: the server does not answer.
    """
    clients: list[dict[str, str]] = client.client_list()  # type: ignore[no-untyped-call, unused-ignore]
    counted: dict[tuple[str, int, str], dict[str, int]] = {}
    for each in clients:
        if each.get("name") != OURS:
            port = each.get("addr", "").rpartition(":")[2]
            process = owners.get(int(port) if port.isdecimal() else 0, "?")
            what = (process, int(each.get("db", 0)), _kind(each))
            found = counted.setdefault(what, {"count": 0})
            found["count"] += 1
            if what[-1] == "pubsub":
                channels = sum(int(each.get(counter) or 0) for counter in _SUBSCRIBED)
                found["channels"] = found.get("channels", 0) + channels
    return [
        {"process": process, "db": db, "kind": kind, **found}
        for (process, db, kind), found in sorted(counted.items(), key=lambda each: each[0])
    ]


def _kind(client: Mapping[str, str]) -> str:
    if any(client.get(counter, "0") not in ("0", "") for counter in _SUBSCRIBED):
        return "pubsub"
    return "blocked" if "b" in client.get("flags", "") else "normal"


def errors() -> tuple[type[Exception], ...]:
    """What reading may raise where a server does not answer as it should."""
    from redis import RedisError

    return (RedisError, OSError)


def read(
    spaces: Mapping[tuple[str, int], Sequence[Tenant]],
    connect: Callable[[str, int], Redis],
    owners: Mapping[str, Mapping[int, str]],
) -> dict[str, Any]:
    """The attributes of a ``storage`` event: ``spaces``, ``clients``, and ``unanswered`` where a server was silent.

    :param spaces: by server and database, the applications that use it.
    :param connect: the harness's connection to a server's database.
    :param owners: by server, whose the connections to it are: own port → process.
    """
    found: dict[str, Any] = {"spaces": [], "clients": []}
    unanswered: dict[str, str] = {}
    for (server, db), tenants in spaces.items():
        try:
            held = space(connect(server, db), tenants)
        except errors() as error:
            unanswered[server] = f"{type(error).__name__}: {error}"[:150]
        else:
            use = {name: any(getattr(tenant, name) for tenant in tenants) for name in ("messages", "results")}
            found["spaces"].append({"server": server, "db": db, **use, **held})
    for server in dict.fromkeys(server for server, _ in spaces):
        db = next(db for name, db in spaces if name == server)
        try:
            clients = connections(connect(server, db), owners.get(server, {}))
        except errors() as error:
            unanswered[server] = f"{type(error).__name__}: {error}"[:150]
        else:
            found["clients"] += [{"server": server, **each} for each in clients]
    return {**found, **({"unanswered": unanswered} if unanswered else {})}
