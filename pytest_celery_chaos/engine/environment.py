"""The processes of one run: brokers, workers, clients and beats, started and known to be ready."""

from __future__ import annotations

import signal as signals
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_celery_chaos.brokers.roles import STATEDB_DB
from pytest_celery_chaos.clients.beat import Beat, settings_of
from pytest_celery_chaos.clients.client import Client
from pytest_celery_chaos.engine import apps
from pytest_celery_chaos.engine.links import TEST, Links
from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.ready import START_TIMEOUT, Readiness
from pytest_celery_chaos.engine.servers import Servers
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.system.contained import Started
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.recorded import Recorded
from pytest_celery_chaos.workers.statedb import REDIS

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.brokers.keyspace import Keyspace
    from pytest_celery_chaos.brokers.server import OnExit, RedisServer
    from pytest_celery_chaos.brokers.spec import BrokerSpec
    from pytest_celery_chaos.engine.session import Session
    from pytest_celery_chaos.history.event import Event
    from pytest_celery_chaos.system.keeper import Child
    from pytest_celery_chaos.workers.recorded import Spawner
    from pytest_celery_chaos.workers.spec import WorkerSpec

#: Seconds that a process takes at most to end after SIGKILL.
_GONE_WITHIN = 10.0


class Environment:
    """Brokers, workers, clients and beats of one run.

    :param temp: a short path, for sockets and the servers' data; removed by the keeper whatever happens.
    :param prefix_of: the beginning of the ids that a step, or an entry of a beat's schedule, makes.
    :param session: starts all of it, and says where and through what, where the plan does not.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        session: Session,
        folder: Path,
        temp: Path,
        live: Live,
        prefix_of: Callable[[str], str],
    ) -> None:
        self._plan, self._session, self._live, self._prefix_of = plan, session, live, prefix_of
        self._keeper, self._folder, self.control = session.keeper, folder, temp
        self.servers = Servers(plan, self._provide, live)
        self.workers: dict[str, Worker] = {}
        self.clients: dict[str, Client] = {}
        self.beats: dict[str, Beat] = {}
        #: A client that is started when it is first asked for.
        self.on_demand: str | None = None
        self._demanded = threading.Lock()
        #: Of each process (``worker:a``) where its application keeps messages and results.
        self.spaces = apps.spaces(plan)
        self.links = Links(
            plan,
            keeper=session.keeper,
            folder=folder,
            control=temp,
            broker=self.servers.__getitem__,
            preferred=session.proxy,
            engine=lambda: session.engine if session.provider == "container" else None,
            on_death=lambda child: self._offline("link:proxy", child, asked=False),
        )
        self._ready = Readiness(
            live, self.servers.redis, self.spaces, self.links.ends, port=lambda name: self.servers[name].port
        )

    def start(self) -> None:
        """Start everything that the plan starts, all at once, and wait until it is ready.

        :raises StartFailed: a process ended, or a worker was not ready within :data:`START_TIMEOUT` seconds.
        :raises OverlayIneffective: a setting given to a worker is not in force there.
        """
        # What processes need beforehand begins first, and goes on while the servers start; but where the way to these
        # leads through a link, their address is known only once there is a proxy.
        if not self._plan.links:
            self._prepare()
        self.servers.start()
        if self._plan.links:
            self.links.start()
            self._prepare()
        first = self._first()
        for process in first:
            process.start()
        # redis-py takes 60 ms to import: now, while the workers do their own imports, not when one is ready.
        self.servers.redis("main", 0)
        for process in first:
            self.await_ready(process)
        for beat in self.beats.values():
            if beat.spec.start:
                self.start_process(beat)

    def _prepare(self) -> None:
        """Make the processes, and begin what those that are started now need beforehand."""
        self._make()
        for process in self._first():
            process.prepare()

    def _first(self) -> Sequence[Recorded]:
        """The processes that are there from the beginning. Workers first: they take longest, and all waits for them."""
        workers = [worker for worker in self.workers.values() if worker.spec.start]
        clients = [each for each in self.clients.values() if each.spec.start and each.name != self.on_demand]
        return [*workers, *clients]

    def _provide(self, spec: BrokerSpec) -> RedisServer:
        """Make one server, not started."""
        return self._session.provide(
            spec,
            self.control / f"broker-{spec.name}",
            self._folder / "logs" / f"broker-{spec.name}.log",
            on_exit=self._broker_ended(f"broker:{spec.name}"),
        )

    def _make(self) -> None:
        """The clients, workers and beats, not started yet."""
        self.clients = {
            name: Client(spec, **self._of_app(f"client:{name}", spec.app, spec.config))
            for name, spec in self._plan.clients.items()
        }
        self.workers = {
            name: Worker(
                spec,
                **self._of_app(f"worker:{name}", spec.app, spec.config) | {"keeper": self._spawner(spec)},
                state=self.servers[spec.statedb_server].tcp_url(STATEDB_DB),
            )
            for name, spec in self._plan.workers.items()
        }
        for name, beat in self._plan.beats.items():
            own = apps.merged(settings_of(beat), beat.config)
            prefixes = {entry: self._prefix_of(entry) for entry in beat.schedule}
            self.beats[name] = Beat(beat, prefixes=prefixes, **self._of_app(f"beat:{name}", beat.app, own))

    def _spawner(self, spec: WorkerSpec) -> Spawner:
        """What starts a worker: the keeper, or a container of its own."""
        sockets = [server.socket_path.parent for server in self.servers.all.values() if server.spec.socket]
        folders = [self._folder.absolute(), self.control, *sockets]
        return self._session.contain(spec, folders, self.control) or self._session.spawner

    def _of_app(self, source: str, app: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """What a process of an application is made with.

        :param source: the process, ``worker:a``.
        """
        return {
            "keeper": self._session.spawner,
            "app": apps.target(self._plan, app),
            "settings": self.settings(own, app=app, source=source),
            "folder": self._folder,
            "control": self.control,
            "on_exit": self._process_ended,
        }

    def settings(
        self, own: Mapping[str, Any], *, app: str = apps.MAIN, source: str = f"client:{TEST}"
    ) -> dict[str, Any]:
        """The settings laid over those of an application: addresses, then the scenario's, then *own*.

        :param source: whose they are, ``worker:a``: by which links it reaches its servers; default: the test's own.
        """
        return apps.settings_of(
            self._plan, app, own, lambda end, name, db: self._url(source, end, name, db), self.servers.transport_options
        )

    def _url(self, source: str, end: Literal["broker", "backend"], name: str, db: int) -> str:
        return self.servers.sentinel_url(name, db) or self.links.url(source, end, name, db)

    def results(self) -> Redis:
        """The harness's connection to where the main application keeps its results."""
        space = apps.keyspace_of(self._plan, apps.MAIN, {})
        return self.servers.redis(space.backend, space.result_db)

    def keyspaces(self) -> list[Keyspace]:
        """Every keyspace that a process of the run uses, each once."""
        return list(dict.fromkeys(self.spaces.values()))

    def states(self) -> list[Redis]:
        """The harness's connections to where workers keep revoked ids in Redis (``statedb: redis``)."""
        specs = [spec for spec in self._plan.workers.values() if spec.statedb in REDIS]
        return [self.servers.redis(name, STATEDB_DB) for name in sorted({spec.statedb_server for spec in specs})]

    def start_process(self, process: Recorded, *, ready: bool = True) -> None:
        """Start a worker, client or beat and, unless told otherwise, wait until it is ready."""
        process.start()
        if ready or isinstance(process, Client):  # one that was not waited for could be given no orders
            self.await_ready(process)

    def await_ready(self, process: Recorded) -> None:
        """Wait until a process that was started can do its work.

        :raises StartFailed: it ended before.
        :raises OverlayIneffective: a setting given to it is not in force there.
        """
        if isinstance(process, Client):
            process.await_ready(START_TIMEOUT)
        elif isinstance(process, Beat):
            self._ready.beat(process)
        else:
            assert isinstance(process, Worker)
            self._adopt(self._ready.worker(process, self.workers.values()))

    def _adopt(self, ready: Event) -> None:
        """Take over the prefixes that an application has set by itself, as a worker of it reports them."""
        settings, mine = ready.attrs.get("settings") or {}, self.spaces[ready.source]
        prefix = str((settings.get("transport_options") or {}).get("global_keyprefix") or "")
        result_prefix = str(settings.get("result_keyprefix") or "")
        for source, space in self.spaces.items():
            if space.app == mine.app and (space.prefix, space.result_prefix) == (mine.prefix, mine.result_prefix):
                self.spaces[source] = replace(space, prefix=prefix, result_prefix=result_prefix)
        self.links.adopt(ready, self.spaces)

    def stop_beats(self) -> None:
        """End every beat that still runs, by SIGKILL: nobody needs its file any more, and SIGTERM may end in errors."""
        for beat in self.beats.values():
            if (child := beat.child) is not None and child.alive:
                beat.asked_to_end = True
                child.signal(signals.SIGKILL, group=True)
                child.wait(_GONE_WITHIN)

    def process(self, role: str, name: str) -> Recorded:
        """The worker, client or beat of that name.

        :param role: ``worker``, ``client`` or ``beat``.
        """
        processes: Mapping[str, Mapping[str, Recorded]]
        processes = {"worker": self.workers, "client": self.clients, "beat": self.beats}
        known = processes[role]
        if name not in known:
            raise UsageError(f"no {role} is called {name!r}", hint=f"{role}s here: {', '.join(known) or 'none'}")
        if role == "client":
            self._demand(name)
        return known[name]

    def _demand(self, name: str) -> None:
        """Start the client that is started on demand, if it is this one and has not been started yet."""
        with self._demanded:
            if name == self.on_demand:
                self.on_demand = None
                self.start_process(self.clients[name])

    def worker(self, name: str) -> Worker:
        self.process("worker", name)
        return self.workers[name]

    def client(self, name: str | None = None) -> Client:
        """The client of that name; by default the first."""
        chosen = next(iter(self.clients), "main") if name is None else name
        self.process("client", chosen)
        return self.clients[chosen]

    def addresses(self) -> Sequence[str]:
        """Where the system can be reached, passwords left out (``--chaos-keep``)."""
        brokers = [f"{name}: {b.server} {b.version} on {b.host}:{b.port}" for name, b in self.servers.all.items()]
        processes = [*self.workers.values(), *self.beats.values()]
        return brokers + [f"{each.role} {each.name}: pid {each.pid}" for each in processes if each.alive]

    def end_workers(self) -> None:
        """End every process but the servers, at once: what can be learnt from them has been learnt."""
        for process in (*self.workers.values(), *self.beats.values()):
            process.asked_to_end = True
        for client in self.clients.values():
            client.close()
        for worker in self.workers.values():
            if worker.container is not None:
                worker.container.close()
        spared = [*(server.child for server in self.servers.all.values()), *self.links.children]
        self._keeper.end_all(spare=[child for child in spared if child is not None and not isinstance(child, Started)])

    def end(self) -> None:
        """End every process of the run. Servers last, and by their own hand: each knows that its end was asked for."""
        self.end_workers()
        self.links.close()
        self.servers.close()

    def busy_consumers(self) -> Sequence[str]:
        """Names of living workers that do not wait in BRPOP at this moment (see :meth:`Readiness.busy`)."""
        return self._ready.busy(self.workers.values())

    def _process_ended(self, process: Recorded, child: Child) -> None:
        self._offline(process.source, child, asked=process.asked_to_end)

    def _broker_ended(self, source: str) -> OnExit:
        return lambda child, asked: self._offline(source, child, asked=asked)

    def _offline(self, source: str, child: Child, *, asked: bool) -> None:
        ended = child.exit
        assert ended is not None
        more: dict[str, Any] = {"oom": True} if ended.oom else {}  # most ends are not that
        self._live.emit(
            "offline",
            source=source,
            code=ended.code,
            signal=ended.signal,
            ended=child.pid,
            asked=asked,
            reaped=ended.t,
            **more,
        )
