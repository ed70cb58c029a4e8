"""What a :class:`BrokerSpec` is in the words of redis.conf. Pure: text in, text out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pytest_celery_chaos.brokers.certificates import Certificates
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import UsageError

#: Its commands take several keys at once, which lie in different slots (CROSSSLOT).
NO_CLUSTER: Final = (
    "Celery cannot use Redis Cluster (celery/celery#2852, celery/kombu#2204): take one server, or Sentinel"
)
#: Options that the harness sets, and what a scenario says instead of them.
RESERVED: Final = {
    "port": "the port is the harness's, and stays over restarts",
    "bind": "servers listen on 127.0.0.1 alone",
    "dir": "the data lives in the run's folder",
    "daemonize": "the harness keeps the server as its own process",
    "supervised": "the harness keeps the server as its own process",
    "pidfile": "the harness knows the process id",
    "logfile": "the log is stored with the run",
    "unixsocket": "every server has one; `socket: true` makes clients use it",
    "requirepass": "use `password: true`",
    "tls-port": "use `tls: true`",
    "cluster-enabled": NO_CLUSTER,
    "save": "use `persistence: rdb` and `save:`",
    "appendonly": "use `persistence: aof-always`, `aof-everysec` or `aof-no`",
    "appendfsync": "use `persistence: aof-always`, `aof-everysec` or `aof-no`",
    "maxmemory": "use `maxmemory:` beside `server:`",
    "maxmemory-policy": "use `maxmemory_policy:` beside `server:`",
}


def check(spec: BrokerSpec) -> None:
    """Refuse what cannot be meant, before anything is started.

    :raises UsageError: a reserved or malformed option, or save points without RDB.
    """
    where = f"broker {spec.name}"
    for key in ("image", "mem_limit"):
        if getattr(spec, key) is not None and (spec.provider == "local" or spec.path is not None):
            raise UsageError(
                f"{key} {getattr(spec, key)!r} for a server that is no container",
                where=where,
                hint="`provider: container`, without `path:`",
            )
    if spec.mem_limit is not None and not re.fullmatch(r"\d+[bkmgBKMG]?", spec.mem_limit):
        raise UsageError(f"mem_limit {spec.mem_limit!r}", where=where, hint="a number and b, k, m or g: `64m`")
    _check_address(spec, where)
    if spec.topology != "standalone" and spec.socket:
        raise UsageError(
            f"topology {spec.topology!r} with `socket: true`",
            where=where,
            hint="a replica takes no socket, and Sentinel tells clients addresses: leave it out",
        )
    if spec.acl and ("aclfile" in spec.options or any(len(rule.split()) != 1 for rule in spec.acl)):
        raise UsageError(
            f"acl {list(spec.acl)!r} beside `aclfile`" if "aclfile" in spec.options else f"acl {list(spec.acl)!r}",
            where=where,
            hint='one rule of ACL SETUSER an entry: ["~*", "&*", "+@all"]',
        )
    if spec.acl and spec.topology != "standalone":
        raise UsageError("`acl:` with several servers", where=where, hint="replicas and Sentinels would need users too")
    if spec.tls and (spec.socket or spec.topology != "standalone"):
        raise UsageError(
            "`tls: true` with " + ("`socket: true`" if spec.socket else f"`topology: {spec.topology}`"),
            where=where,
            hint="TLS is for the port of one server: leave one of them out",
        )
    for option in spec.options:
        if instead := RESERVED.get(option.strip().lower()):
            raise UsageError(f"option {option!r} cannot be set", where=where, hint=instead)
    own = {"maxmemory": spec.maxmemory or "", "maxmemory-policy": spec.maxmemory_policy or ""}
    for option, value in {**spec.options, **own}.items():
        if len(option.split()) != 1 or any(letter in f"{option}{value}" for letter in "\r\n\0"):
            raise UsageError(
                f"option {option!r}: {value!r} is not one line of redis.conf",
                where=where,
                hint="one name, and a value without line breaks",
            )
    if spec.save is not None and spec.persistence != "rdb":
        raise UsageError(
            f"save points {spec.save!r} with persistence {spec.persistence!r}",
            where=where,
            hint="set `persistence: rdb`",
        )
    if spec.save is not None and not _save_points(spec.save):
        raise UsageError(f"save points {spec.save!r}", where=where, hint='pairs of seconds and changes, "60 1 10 100"')


def _check_address(spec: BrokerSpec, where: str) -> None:
    """A server that is only an address is as it is; what is said of addresses alone is said of one."""
    ours = ("version", "path", "image", "mem_limit", "save", "maxmemory", "maxmemory_policy", "password", "acl")
    given = [name for name in (*ours, "socket", "tls", "options") if getattr(spec, name)]
    given += ["persistence"] * (spec.persistence != "none")
    given += ["topology"] * (spec.topology != "standalone")
    if spec.address is not None and given:
        what = f"{', '.join(given)} of {spec.address}, which is only an address"
        raise UsageError(what, where=where, hint="leave it out: that server is as it is")
    given = [name for name in ("username", "password_from", "allow") if getattr(spec, name)]
    if spec.address is None and given:
        raise UsageError(
            f"{', '.join(given)} without `address:`", where=where, hint="they are about a server out there"
        )
    if spec.allow not in (None, spec.address):
        what = f"allow {spec.allow!r} is not the address {spec.address!r}"
        raise UsageError(what, where=where, hint="write the same address")


def text(
    spec: BrokerSpec,
    *,
    port: int,
    socket: Path,
    folder: Path,
    password: str | None,
    own: tuple[str, str] | None = None,
    bind: str = "127.0.0.1",
    tls: Certificates | None = None,
    user: tuple[str, str] | None = None,
) -> str:
    """The server's configuration file.

    :param socket: path of the unix socket (below 108 bytes).
    :param folder: where the server keeps its data.
    :param password: of the default user; the reason why the file is nobody else's to read.
    :param own: name and password of a user of the harness's own, whom no change to the others concerns.
    :param bind: the address that it listens on.
    :param tls: it speaks TLS on its port, and nothing else.
    :param user: name and password of the user that *spec*'s ``acl`` is about; the default user is off then.
    """
    lines = [
        "daemonize no",
        f"bind {bind}",
        *(["port 0", f"tls-port {port}", *tls.lines] if tls else [f"port {port}"]),
        f"unixsocket {_quoted(str(socket))}",
        "unixsocketperm 700",
        f"dir {_quoted(str(folder))}",
        *_persistence(spec),
    ]
    if spec.maxmemory is not None:
        lines.append(f"maxmemory {spec.maxmemory}")
    if spec.maxmemory_policy is not None:
        lines.append(f"maxmemory-policy {spec.maxmemory_policy}")
    if user is not None:
        lines += [f"user {user[0]} reset resetchannels on >{user[1]} {' '.join(spec.acl)}", "user default off"]
    elif password is not None:
        lines.append(f"requirepass {_quoted(password)}")
    if own is not None:
        lines.append(f"user {own[0]} on >{own[1]} ~* &* +@all")
    # As in redis.conf: a value of several words (client-output-buffer-limit) must not be quoted into one.
    lines += [f"{option.strip()} {str(value).strip() or _quoted('')}" for option, value in spec.options.items()]
    return "\n".join(lines) + "\n"


def _persistence(spec: BrokerSpec) -> list[str]:
    if spec.persistence == "rdb":
        points = _save_points(spec.save) if spec.save else []  # none given: the server's own defaults
        return ["appendonly no", *(f"save {seconds} {changes}" for seconds, changes in points)]
    if spec.persistence == "none":
        return ["appendonly no", 'save ""']
    return ["appendonly yes", f"appendfsync {spec.persistence.removeprefix('aof-')}", 'save ""']


def _save_points(save: str) -> list[tuple[int, int]]:
    """``"60 1 10 100"`` as pairs: before Redis 7 a line holds one pair. Empty where it is not made of such pairs."""
    words = save.split()
    if not words or len(words) % 2 or not all(word.isdigit() for word in words):
        return []
    numbers = [int(word) for word in words]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
