"""What a scenario says of a server, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_celery_chaos.values import Count, Duration, Provider

Server = Literal["valkey", "redis"]
Topology = Literal["standalone", "replicas", "sentinel"]
Persistence = Literal["none", "rdb", "aof-everysec", "aof-always", "aof-no"]


@dataclass(frozen=True)
class BrokerSpec:
    """A Redis or Valkey server, as broker or as result backend.

    :param name: by which steps and links name it.
    :param server: ``valkey`` or ``redis``.
    :param version: a version or its beginning (``9.1``); None takes the newest that is found.
    :param persistence: what survives the server: nothing, RDB snapshots at the save points of *save*, or an
        append-only file with ``appendfsync`` everysec, always or no.
    :param save: RDB save points as in redis.conf, ``"1 1"`` (seconds and changes); only with ``rdb``.
    :param maxmemory: as in redis.conf, ``"10mb"``.
    :param maxmemory_policy: ``noeviction``, ``allkeys-lru`` …
    :param password: give the server a password, made for the run.
    :param acl: who clients are is a user `celery` with these rules of ACL SETUSER alone, `["~*", "+@all"]`, and a
        password made for the run; nobody else is let in.
    :param socket: clients and workers use the server's unix socket.
    :param tls: it speaks TLS alone, with a certificate made for the run (`rediss://`); needs the extra `tls`. On a
        link the proxy speaks it in the place of the client.
    :param options: any other option of the server, by its name in redis.conf.
    :param path: the server's binary, instead of one found by server and version.
    :param provider: whether it is a process of this machine or runs in a container. Default: the setting
        `chaos_provider`.
    :param image: the container's image, instead of the official one of server and version.
    :param mem_limit: what the kernel gives its container, `64m`, swap included (Docker's and Compose's `mem_limit`). At
        the limit the kernel kills the server, whose `offline` then says `oom`; where it only stalls there is no
        `offline`.
    :param address: `host:port` of a server that is there already and empty. What it holds is nobody's to break, unless
        *allow* says so; faults that need its process cannot be done to it.
    :param username: who the run is there (ACL); with *password_from*.
    :param password_from: the environment variable that has the password for *address*.
    :param topology: `standalone`; `replicas`, a primary that *replicas* copy; or `sentinel`, where three Sentinels
        watch them besides, and put a replica in the place of a primary that is gone. The servers are called `main-1`,
        `main-2` …, the Sentinels `main-sentinel-1` …; `main` is the primary of the moment.
    :param replicas: how many copy the primary.
    :param down_after: how long a server may keep silent until a Sentinel takes it for dead
        (`down-after-milliseconds`). It asks once a second: with one second a busy machine is enough for a death.
    :param allow: the same address once more: faults may touch what it holds and whom it serves, and at the end of the
        run it is emptied (FLUSHALL).
    """

    name: str = "main"
    server: Server = "valkey"
    version: str | None = None
    persistence: Persistence = "none"
    save: str | None = None
    maxmemory: str | None = None
    maxmemory_policy: str | None = None
    password: bool = False
    acl: Sequence[str] = ()
    socket: bool = False
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    provider: Provider | None = None
    image: str | None = None
    mem_limit: str | None = None
    address: str | None = None
    username: str | None = None
    password_from: str | None = None
    allow: str | None = None
    topology: Topology = "standalone"
    replicas: Count = 2
    down_after: Duration = 3.0

    def runs_in(self, preferred: Provider) -> Provider | Literal["external"]:
        """Where it runs, in a session that prefers so: what the spec says, or cannot be otherwise, comes first."""
        if self.address is not None:
            return "external"
        if self.provider is not None:
            return self.provider
        if self.image is not None or self.mem_limit is not None:
            return "container"
        return "local" if self.path is not None else preferred

    @property
    def members(self) -> list[str]:
        """The names of its servers: its own, or those of the primary and its replicas, the first primary first."""
        if self.topology == "standalone":
            return [self.name]
        return [f"{self.name}-{number}" for number in range(1, self.replicas + 2)]

    @property
    def sentinels(self) -> list[str]:
        """The names of the Sentinels that watch its servers."""
        return [f"{self.name}-sentinel-{number}" for number in (1, 2, 3)] if self.topology == "sentinel" else []
