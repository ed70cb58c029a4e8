"""A primary with replicas, and the Sentinels that watch over them: several servers under one name."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.errors import NoAnswer, StartFailed, UsageError, WaitExpired
from pytest_celery_chaos.system import wait

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.brokers.spec import BrokerSpec

#: Sentinels that must agree on a primary's death: two of the three.
_QUORUM: Final = 2
#: Milliseconds of a failover until it is given up. One that was given up is tried again after twice as many: with
#: Sentinel's own three minutes, one lost election would outlast every run.
_FAILOVER_MS: Final = 2000
#: Seconds that one Sentinel has to answer: the next is asked then.
_ASKED: Final = 0.5
#: Seconds until all of them know each other.
_TOGETHER: Final = 30.0


class Replicated:
    """The servers of one broker with a ``topology``; they are started one by one, under their own names.

    :param spec: of the broker; its servers are like it.
    :param make: makes one server, not started.
    :ivar servers: the primary and its replicas, by name.
    :ivar sentinels: who watch over them, by name; empty without.
    """

    def __init__(self, spec: BrokerSpec, make: Callable[[BrokerSpec], RedisServer]) -> None:
        self.spec, self.name = spec, spec.name
        # A replica waits for a first copy as long as a primary waits for further replicas: five seconds.
        own = {"repl-diskless-sync-delay": "0", **spec.options}
        alone = replace(spec, topology="standalone", options=own)
        self.servers = {name: make(replace(alone, name=name)) for name in spec.members}
        watching = replace(
            alone, persistence="none", save=None, maxmemory=None, maxmemory_policy=None, mem_limit=None, options={}
        )
        self.sentinels = {name: make(replace(watching, name=name)) for name in spec.sentinels}
        first, *others = self.servers.values()
        self._primary = first
        for server in (*others, *self.sentinels.values()):
            server.share_passwords(first)

    def configure(self) -> None:
        """Write into the configuration of each who the others are; before the first start.

        A replica that was the primary once needs the password as well, and Sentinels that are told of each other need
        not find each other first, which takes seconds.
        """
        first, *others = self.servers.values()
        known = [f"masterauth {first.password}"] if first.password else []
        first.lines = known
        for replica in others:
            replica.lines = [*known, "replicaof {} {}".format(*first.peer_address)]
        ids = {name: secrets.token_hex(20) for name in self.sentinels}
        for name, sentinel in self.sentinels.items():
            sentinel.arguments = ("--sentinel",)
            sentinel.lines = list(self._watching(name, ids))

    def _watching(self, sentinel: str, ids: Mapping[str, str]) -> Iterator[str]:
        first, *others = self.servers.values()
        yield f"sentinel myid {ids[sentinel]}"
        yield "sentinel monitor {} {} {} {}".format(self.name, *first.peer_address, _QUORUM)
        yield f"sentinel down-after-milliseconds {self.name} {round(self.spec.down_after * 1000)}"
        yield f"sentinel failover-timeout {self.name} {_FAILOVER_MS}"
        if first.password:
            yield f"sentinel auth-pass {self.name} {first.password}"
        for replica in others:
            yield "sentinel known-replica {} {} {}".format(self.name, *replica.peer_address)
        for name, other in self.sentinels.items():
            if name != sentinel:
                yield "sentinel known-sentinel {} {} {} {}".format(self.name, *other.peer_address, ids[name])

    # Who is who

    @property
    def primary(self) -> RedisServer:
        """The primary that clients are told of, as far as :meth:`learn` has learnt."""
        return self._primary

    def learn(self) -> int:
        """Ask every Sentinel who the primary is, and believe it when all that answer say the same.

        The leader of a failover calls a new one the master a second after the others: until then it depends on whom a
        client asks.

        :returns: the epoch in which it is (``config-epoch``); -1: they do not agree, or none answers.
        """
        found: dict[tuple[str, int], int] = {}
        for sentinel in self.sentinels.values():
            with suppress(NoAnswer):
                said = self._ask(sentinel, "MASTER")
                found[said["ip"], int(said["port"])] = int(said["config-epoch"])
        if len(found) != 1:
            return -1
        [(address, epoch)] = found.items()
        self._primary = next(each for each in self.servers.values() if each.peer_address == address)
        return epoch

    def _ask(self, sentinel: RedisServer, what: str) -> Any:
        """What a Sentinel says of the primary, its replicas or the other Sentinels (``SENTINEL MASTER`` …).

        :raises NoAnswer: it does not run, or does not answer.
        """
        if not sentinel.alive or sentinel.paused:
            raise NoAnswer(f"{sentinel.name} does not run", hint="start it")
        with answering(), sentinel.client(0, socket_timeout=_ASKED, decode_responses=True) as client:
            answer: Any = client.execute_command("SENTINEL", what, self.name)  # type: ignore[no-untyped-call, unused-ignore]
        return _paired(answer) if what == "MASTER" else [_paired(each) for each in answer]

    def failover(self, within: float, *options: str) -> tuple[RedisServer, RedisServer]:
        """Have a Sentinel put a replica in the primary's place (SENTINEL FAILOVER), and wait until it is.

        :param within: seconds.
        :param options: of the command, such as ``COORDINATED`` (Valkey 9).
        :returns: the primary before, and the one now.
        :raises UsageError: there are no Sentinels, or none of them does it (no replica is good enough).
        :raises WaitExpired: nothing has changed.
        """
        from redis import ResponseError

        self.learn()
        before = self.primary
        refused = "it has no Sentinels"
        for sentinel in self.sentinels.values():
            if not sentinel.alive or sentinel.paused:
                refused = "none of its Sentinels runs"
                continue
            try:
                with answering(), sentinel.client(0) as client:
                    client.execute_command("SENTINEL", "FAILOVER", self.name, *options)  # type: ignore[no-untyped-call, unused-ignore]
                break
            except (ResponseError, NoAnswer) as error:
                refused = f"{sentinel.name} says {error}"
        else:
            raise UsageError(
                f"no failover of broker {self.name}: {refused}",
                hint="`topology: sentinel`, and a replica that runs",
            )
        wait.until(
            lambda: self.learn() > -1 and self.primary is not before,
            what=f"another primary than {before.name}",
            timeout=within,
        )
        return before, self.primary

    # How it is reached

    def url(self, db: int) -> str:
        """For ``broker_url`` and ``result_backend``: of all Sentinels."""
        user = self.primary.user
        return ";".join(
            "sentinel://{}{}:{}/{}".format(user, *each.peer_address, db) for each in self.sentinels.values()
        )

    @property
    def transport_options(self) -> Mapping[str, Any]:
        """For ``broker_transport_options`` and ``result_backend_transport_options``: whom to ask the Sentinels for."""
        if not self.sentinels:
            return {}
        password = self._primary.password
        return {"master_name": self.name, **({"sentinel_kwargs": {"password": password}} if password else {})}

    # When it is ready

    def await_ready(self) -> None:
        """Wait until the replicas have their first copy, and the Sentinels know all of them and each other.

        :raises StartFailed: not within 30 s.
        """
        for sentinel in self.sentinels.values():
            if sentinel.peer_address[0] != sentinel.host:
                raise StartFailed(
                    "Sentinel tells clients the addresses of containers, to which there is no way from here",
                    where=f"broker {self.name}",
                    hint="an engine of this machine, or `provider: local`",
                )
        for what, ready in (("replicas to be copies", self._copied), ("Sentinels to know all servers", self._together)):
            try:
                wait.until(ready, what=f"broker {self.name}'s {what}", timeout=_TOGETHER)
            except WaitExpired as error:
                raise StartFailed(str(error.what), where=f"broker {self.name}", hint="see the servers' logs") from None

    def _copied(self) -> bool:
        with suppress(NoAnswer), answering():
            said = replication(self._primary)
            slaves = [said.get(f"slave{number}") for number in range(self.spec.replicas)]
            return all(slave is not None and slave["state"] == "online" for slave in slaves)
        return False

    def _together(self) -> bool:
        known = {"SLAVES": ("slave", self.spec.replicas), "SENTINELS": ("sentinel", len(self.sentinels) - 1)}
        with suppress(NoAnswer):
            for sentinel in self.sentinels.values():
                seen = {what: self._ask(sentinel, what) for what in known}
                if any(
                    [one["flags"] for one in seen[what]] != [flag] * count for what, (flag, count) in known.items()
                ) or any(one["master-link-status"] != "ok" for one in seen["SLAVES"]):
                    return False
            return True
        return False


def replication(server: RedisServer) -> dict[str, Any]:
    """What a server says of whom it copies, and who copies it (INFO replication)."""
    with server.client(0) as client:
        said: dict[str, Any] = client.info("replication")
    return said


def _paired(answer: Any) -> dict[str, Any]:
    """One server as a Sentinel tells it; redis-py makes a dictionary of it in some versions, a list in others."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
