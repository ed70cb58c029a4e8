"""The servers of one run: started, reached by the harness, ended; several of them may bear one broker's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.promotions import Promotions
from pytest_celery_chaos.brokers.replicated import Replicated
from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.errors import UsageError

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.brokers.spec import BrokerSpec


class Servers:
    """Broker and result backend of a plan.

    :param make: makes one server, not started.
    :param live: gets their events.
    :ivar all: every server by its own name.
    :ivar replicated: by the name of their broker those of which it has several.
    """

    def __init__(self, plan: Plan, make: Callable[[BrokerSpec], RedisServer], live: Live) -> None:
        self._specs = [spec for spec in (plan.broker, plan.backend) if spec is not None]
        self._make, self._live = make, live
        self.all: dict[str, RedisServer] = {}
        self.replicated: dict[str, Replicated] = {}
        self._promotions: list[Promotions] = []
        self._connections: dict[tuple[str, int], Redis] = {}
        for spec in self._specs:
            if spec.topology == "standalone":
                self._add(spec)
            else:
                self.replicated[spec.name] = Replicated(spec, self._add)

    def _add(self, spec: BrokerSpec) -> RedisServer:
        server = self.all[spec.name] = self._make(spec)
        return server

    def __getitem__(self, name: str) -> RedisServer:
        """The server of that name; by the name of a broker of several, the primary of the moment.

        :raises UsageError: there is none.
        """
        if name in self.replicated:
            return self.replicated[name].primary
        if name not in self.all:
            known = ", ".join([*self.replicated, *self.all])
            raise UsageError(f"no broker is called {name!r}", hint=f"brokers here: {known}")
        return self.all[name]

    def start(self) -> None:
        """Start all of them; each answers PING when this returns, and those that copy and watch others do so.

        :raises StartFailed: one has ended instead.
        """
        for several in self.replicated.values():
            several.configure()
        # Who copies a server, or watches it, looks for it again only after a second.
        primaries = {spec.members[0] for spec in self._specs}
        self._start([name for name in self.all if name in primaries])
        self._start([name for name in self.all if name not in primaries])
        for several in self.replicated.values():
            several.await_ready()
            if several.sentinels:
                self._promotions.append(Promotions(several, self._live.emit))

    def _start(self, names: Sequence[str]) -> None:
        """Start some: those in containers at once, since an engine takes half a second for each."""
        contained = [name for name in names if self.all[name].contained]
        for name in names:
            if name not in contained or len(contained) == 1:
                self.start_one(name)
        if len(contained) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(contained), "celery-chaos start") as pool:
                for _ in pool.map(self.start_one, contained):
                    pass

    def start_one(self, name: str) -> None:
        """Start one; it answers PING when this returns."""
        server = self[name]
        server.start()
        self.online(server)

    def online(self, server: RedisServer) -> None:
        """Write down that a server answers."""
        self._live.emit("online", source=f"broker:{server.name}", **server.about)

    def redis(self, name: str, db: int) -> Redis:
        """The harness's own connection to a server, for plain reads; the same one for the whole run."""
        server = self[name]
        if (server.name, db) not in self._connections:
            self._connections[server.name, db] = server.client(db)
        return self._connections[server.name, db]

    def sentinel_url(self, name: str, db: int) -> str | None:
        """The address by which clients ask Sentinels for a broker; None: it has none, and is reached directly."""
        several = self.replicated.get(name)
        return several.url(db) if several and several.sentinels else None

    def transport_options(self, name: str) -> Mapping[str, Any]:
        """What kombu and Celery must be told beside the address of a broker."""
        return self.replicated[name].transport_options if name in self.replicated else {}

    def close(self) -> None:
        """End them, by their own hand: each knows that its end was asked for."""
        for promotions in self._promotions:
            promotions.close()
        for connection in self._connections.values():
            connection.close()
        for server in self.all.values():
            server.close()
