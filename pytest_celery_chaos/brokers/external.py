"""A server that is somebody else's: there is only its address, and rules about what may be done to it."""

from __future__ import annotations

import os
import socket as sockets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.config import NO_CLUSTER
from pytest_celery_chaos.brokers.server import RedisServer, identity
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import NoAnswer, StartFailed, UsageError

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.system.keeper import Child, Keeper

#: Faults that need the server's process, its disk or its container: an address has none of them.
OF_THE_PROCESS: Final = frozenset(
    {"kill", "stop", "start", "restart", "pause", "resume", "recreate", "disconnect", "misconf", "loading", "failover"}
)
#: Faults that change what the server holds, how it is set, or whom it serves: every user of it would feel them.
OF_THE_DATA: Final = frozenset(
    {
        *("delete", "expire", "overwrite", "flush", "evict", "fill", "age"),
        *("client_kill", "client_pause", "readonly", "credentials"),
    }
)


def refused(spec: BrokerSpec, verb: str) -> tuple[str, str] | None:
    """Why a fault may not be done to a server, and what to do about it; None: it may.

    :param verb: the fault's name.
    """
    if spec.address is None:
        return None
    if verb in OF_THE_PROCESS:
        return (
            f"`{verb}` needs the server's process, and {spec.address} is only an address",
            "use faults of links (`cut`, `freeze`, `answer` …), or a server of the run's own",
        )
    if verb in OF_THE_DATA and spec.allow != spec.address:
        return (
            f"`{verb}` touches what {spec.address} holds, or whom it serves",
            f'if it is yours alone, say so beside its address: `allow: "{spec.address}"`',
        )
    return None


def target(verb: str, args: Mapping[str, Any]) -> str | None:
    """Which server a fault is done to; None: to none."""
    if verb in OF_THE_DATA:
        return str(args.get("broker") or "main")
    return args.get("broker") if verb in OF_THE_PROCESS else None


class ExternalServer(RedisServer):
    """A server that was there before the run and stays. It must be empty when the run begins.

    :raises UsageError: no address of the form ``host:port``, or the variable with its password is not set.
    """

    child: Child | None = None

    def __init__(self, spec: BrokerSpec, keeper: Keeper, log: Path) -> None:
        where = f"broker {spec.name}"
        self.server, self.version = spec.server, spec.version or "unknown"
        host, _, port = (spec.address or "").rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(
                f"{spec.address!r} is no address", where=where, hint='write host and port: "10.0.0.5:6379"'
            )
        super().__init__(spec, keeper, log)
        self.host, self._was_empty = host, False
        self.__dict__["port"] = int(port)  # not one of ours to let go
        if spec.password_from is not None:
            self.password = os.environ.get(spec.password_from)
            if not self.password:
                raise UsageError(f"{spec.password_from} is not set", where=where, hint="export it with the password")

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self.ping().startswith("+PONG")

    def start(self, timeout: float = 30.0, *, arguments: Sequence[str] = (), answers: str = "+PONG") -> None:
        """See that it answers and is empty.

        :raises StartFailed: it does not answer, or holds keys.
        """
        where = f"broker {self.name}"
        try:
            with answering():
                said: Any = self.client(0).info()
        except NoAnswer as error:
            hint = "is the address right, and does it want a password (`password_from:`)?"
            raise StartFailed(f"{self.spec.address} does not answer: {error.what}", where=where, hint=hint) from None
        self.server, self.version = identity(said)
        if said.get("cluster_enabled"):
            raise StartFailed(f"{self.spec.address} is a node of Redis Cluster", where=where, hint=NO_CLUSTER)
        held = {db: about["keys"] for db, about in said.items() if db.startswith("db") and isinstance(about, dict)}
        if held:
            told = ", ".join(f"{keys} keys in {db}" for db, keys in held.items())
            raise StartFailed(
                f"{self.spec.address} is not empty: {told}",
                where=where,
                hint="nobody else's data is touched: name a server that holds nothing, or empty it yourself",
            )
        self._was_empty = True

    def client(self, db: int, **options: Any) -> Redis:
        named = {"username": self.spec.username} if self.spec.username else {}
        return super().client(db, **{**named, **options})

    def ping(self, timeout: float = 1.0) -> str:
        try:
            with answering():
                return "+PONG" if self.client(0, socket_timeout=timeout).ping() else "nothing"
        except NoAnswer as error:
            return error.what

    def close(self) -> None:
        """Take away what the run has left there, if that is allowed and nothing was there when it began."""
        if self._was_empty and self.spec.allow == self.spec.address and self.alive:
            self._was_empty = False
            with answering():
                self.client(0).flushall()
        self.__dict__.pop("port", None)

    @property
    def user(self) -> str:
        if not self.password:
            return ""
        return f"{quote(self.spec.username or '', safe='')}:{quote(self.password, safe='')}@"

    def _has_users(self) -> bool:
        return False

    # What an address cannot do

    def kill(self, signal: int = 9) -> None:
        self._refuse("kill")

    def stop(self, timeout: float = 15.0) -> None:
        self._refuse("stop")

    def pause(self) -> None:
        self._refuse("pause")

    def resume(self) -> None:
        self._refuse("resume")

    def block(self, name: str) -> Callable[[], None]:
        self._refuse("misconf")

    def _launch(self, arguments: Sequence[str]) -> Child:
        self._refuse("start")

    def _lose_data(self) -> None:
        self._refuse("restart")

    def _bury(self) -> None:
        self._refuse("restart")

    def _connect(self, timeout: float) -> sockets.socket:
        return sockets.create_connection((self.host, self.port), timeout=timeout)

    @property
    def paused(self) -> bool:
        return False

    def _refuse(self, verb: str) -> NoReturn:
        what, hint = refused(self.spec, verb) or (verb, "")
        raise UsageError(what, where=f"broker {self.name}", hint=hint)
