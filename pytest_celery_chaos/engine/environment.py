"""The processes of one run: brokers, workers and clients, started and known to be ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.roles import STATEDB_DB
from pytest_celery_chaos.clients.client import Client
from pytest_celery_chaos.engine import apps
from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.errors import OverlayIneffective, UsageError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system.wait import until
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.statedb import REDIS

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.brokers.keyspace import Keyspace
    from pytest_celery_chaos.system.keeper import Child, Keeper

START_TIMEOUT = 30.0
#: What a recorder says that could not get in everywhere: its silence about something would prove nothing.
_BLIND = ("hook_missing", "hook_failed")


class Environment:
    """Brokers, workers and clients of one run.

    :param temp: a short path, for sockets and the servers' data; removed by the keeper whatever happens.
    """

    def __init__(self, plan: Plan, *, keeper: Keeper, folder: Path, temp: Path, live: Live) -> None:
        self._plan, self._keeper, self._live = plan, keeper, live
        self._folder, self.control = folder, temp
        specs = {"main": plan.broker, **({"backend": plan.backend} if plan.backend else {})}
        self.brokers = {
            name: LocalServer(
                spec,
                keeper,
                temp / f"broker-{name}",
                folder / "logs" / f"broker-{name}.log",
                on_exit=self._broker_ended(f"broker:{name}"),
            )
            for name, spec in specs.items()
        }
        self.workers: dict[str, Worker] = {}
        self.clients: dict[str, Client] = {}
        #: Of each process (``worker:a``) where its application keeps messages and results.
        self.spaces = apps.spaces(plan)
        self._connections: dict[tuple[str, int], Redis] = {}

    def start(self) -> None:
        """Start everything that the plan starts, all at once, and wait until it is ready.

        :raises StartFailed: a process ended, or a worker was not ready within :data:`START_TIMEOUT` seconds.
        :raises OverlayIneffective: a setting given to a worker is not in force there.
        """
        for name in self.brokers:
            self.start_broker(name)
        self._make()
        first = [worker for worker in self.workers.values() if worker.spec.start]
        for worker in first:
            worker.start()
        for client in self.clients.values():
            client.launch()  # after the workers: they take longer, and all else waits for them
        # redis-py takes 60 ms to import: now, while the workers do their own imports, not when one is ready.
        self.redis("main", 0)
        for worker in first:
            self.await_ready(worker)
        for client in self.clients.values():
            client.await_ready(START_TIMEOUT)

    def _make(self) -> None:
        """The clients and workers, not started yet."""
        self.clients = {
            name: Client(spec, **self._of_app(spec.app, spec.config)) for name, spec in self._plan.clients.items()
        }
        self.workers = {
            name: Worker(
                spec,
                **self._of_app(spec.app, spec.config),
                on_exit=self._worker_ended,
                state=self.broker(spec.statedb_server).tcp_url(STATEDB_DB),
            )
            for name, spec in self._plan.workers.items()
        }

    def _of_app(self, app: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """What a process of an application is made with."""
        return {
            "keeper": self._keeper,
            "app": apps.target(self._plan, app),
            "settings": self.settings(own, app=app),
            "folder": self._folder,
            "control": self.control,
        }

    def settings(self, own: Mapping[str, Any], *, app: str = apps.MAIN) -> dict[str, Any]:
        """The settings laid over those of an application: addresses, then the scenario's, then *own*."""
        return apps.settings_of(self._plan, app, own, lambda name, db: self.broker(name).url(db))

    def start_broker(self, name: str) -> None:
        """Start one server; it answers PING when this returns."""
        server = self.broker(name)
        server.start()
        self.online(name)

    def online(self, name: str) -> None:
        """Write down that a server answers."""
        server = self.broker(name)
        self._live.emit(
            "online", source=f"broker:{name}", server=server.server, version=server.version, port=server.port
        )

    def redis(self, name: str, db: int) -> Redis:
        """The harness's own connection to a server, for plain reads; the same one for the whole run."""
        if (name, db) not in self._connections:
            self._connections[name, db] = self.broker(name).client(db)
        return self._connections[name, db]

    def results(self) -> Redis:
        """The harness's connection to where the main application keeps its results."""
        space = apps.keyspace_of(self._plan, apps.MAIN, {})
        return self.redis(space.backend, space.result_db)

    def keyspaces(self) -> list[Keyspace]:
        """Every keyspace that a process of the run uses, each once."""
        return list(dict.fromkeys(self.spaces.values()))

    def states(self) -> list[Redis]:
        """The harness's connections to where workers keep revoked ids in Redis (``statedb: redis``)."""
        specs = [spec for spec in self._plan.workers.values() if spec.statedb in REDIS]
        return [self.redis(name, STATEDB_DB) for name in sorted({spec.statedb_server for spec in specs})]

    def start_worker(self, worker: Worker, *, ready: bool = True) -> None:
        """Start a worker and, unless told otherwise, wait until it is ready."""
        worker.start()
        if ready:
            self.await_ready(worker)

    def await_ready(self, worker: Worker) -> Event:
        """Wait until the worker says ready, hears both messages and commands, and has the settings asked for."""
        pid = worker.pid
        ready = until(
            lambda: self._event(worker, "ready", pid),
            what=f"worker {worker.name} to be ready",
            timeout=START_TIMEOUT,
            last=lambda: worker.log_tail(5),
        )
        ineffective = sorted(name for name, held in ready.attrs.get("overlay", {}).items() if not held)
        if ineffective:
            raise OverlayIneffective(
                f"not in force: {', '.join(ineffective)}",
                where=f"worker {worker.name!r}",
                hint="the application sets it where nothing can be laid over it; change it there",
            )
        until(
            lambda: (
                self._event(worker, "consuming", pid) and self._brpop_pending(worker) and self._commands_heard(worker)
            ),
            what=f"worker {worker.name} to wait for messages (BRPOP) and commands (PSUBSCRIBE)",
            timeout=START_TIMEOUT,
            last=lambda: worker.log_tail(5),
        )
        return ready

    def broker(self, name: str) -> LocalServer:
        if name not in self.brokers:
            raise UsageError(f"no broker is called {name!r}", hint=f"brokers here: {', '.join(self.brokers)}")
        return self.brokers[name]

    def worker(self, name: str) -> Worker:
        if name not in self.workers:
            raise UsageError(f"no worker is called {name!r}", hint=f"workers here: {', '.join(self.workers)}")
        return self.workers[name]

    def client(self, name: str | None = None) -> Client:
        """The client of that name; by default the first."""
        chosen = next(iter(self.clients), "main") if name is None else name
        if chosen not in self.clients:
            raise UsageError(f"no client is called {chosen!r}", hint=f"clients here: {', '.join(self.clients)}")
        return self.clients[chosen]

    def addresses(self) -> Sequence[str]:
        """Where the system can be reached, passwords left out (``--chaos-keep``)."""
        brokers = [f"{name}: {b.server} {b.version} on 127.0.0.1:{b.port}" for name, b in self.brokers.items()]
        return brokers + [f"worker {w.name}: pid {w.pid}" for w in self.workers.values() if w.alive]

    def end_workers(self) -> None:
        """End every process but the servers, at once: what can be learnt from them has been learnt."""
        for worker in self.workers.values():
            worker.asked_to_end = True
        for client in self.clients.values():
            client.close()
        self._keeper.end_all(spare=[server.child for server in self.brokers.values() if server.child is not None])

    def end(self) -> None:
        """End every process of the run. Servers last, and by their own hand: each knows that its end was asked for."""
        self.end_workers()
        for connection in self._connections.values():
            connection.close()
        for server in self.brokers.values():
            server.close()

    def _event(self, worker: Worker, kind: str, pid: int) -> Event | None:
        if not worker.alive:
            raise worker.failed_to_start("the worker ended before it was ready")
        broken = self._live.find(lambda e: e.kind in _BLIND and e.source == worker.source and e.pid == pid)
        if broken is not None:
            raise worker.failed_to_start(f"the recorder cannot see everything: {broken.kind} {dict(broken.attrs)}")
        return self._live.find(lambda e: e.kind == kind and e.source == worker.source and e.pid == pid)

    def busy_consumers(self) -> Sequence[str]:
        """Names of living workers that do not wait in BRPOP at this moment.

        A worker that waits there has handed on everything that it was given before: there is no other way to know
        that no message lies between the server's reply to BRPOP and the worker's first word about it.
        """
        pending = self._pending_brpop()
        living = [worker for worker in self.workers.values() if worker.alive]
        addresses = {worker.name: self._consumers(worker) for worker in living}
        if any(None in each for each in addresses.values()):
            # Over a unix socket connections have no address to tell them apart: they are counted.
            return [worker.name for worker in living] if len(pending) < len(living) else []
        return [name for name, each in addresses.items() if not each & pending]

    def _consumers(self, worker: Worker) -> set[str | None]:
        """Our side of the connections on which the worker's process has sent BRPOP."""
        pid = worker.child.pid if worker.child else 0
        events = self._live.read()
        return {
            e.attrs.get("address") for e in events if (e.kind, e.source, e.pid) == ("consuming", worker.source, pid)
        }

    def _brpop_pending(self, worker: Worker) -> bool:
        pending, addresses = self._pending_brpop(), self._consumers(worker)
        return bool(pending) if addresses == {None} else bool(addresses & pending)

    def _pending_brpop(self) -> set[str]:
        """Addresses of the connections, of whatever server and database, that wait in BRPOP."""
        from pytest_celery_chaos.brokers.keys import pending_brpop

        servers = dict.fromkeys(space.broker for space in self.spaces.values())
        return {address for name in servers for address in pending_brpop(self.redis(name, 0))}

    def _commands_heard(self, worker: Worker) -> bool:
        """Whether as many connections are subscribed as there are living workers with remote control on its broker."""
        from pytest_celery_chaos.brokers.keys import subscribers

        mine = self.spaces[worker.source]
        living = {(worker.source, worker.pid) for worker in self.workers.values() if worker.alive}
        wanted = [
            event
            for event in self._live.read()
            if event.kind == "ready"
            and (event.source, event.pid) in living
            and self.spaces[event.source].messages[:2] == mine.messages[:2]
            and event.attrs.get("settings", {}).get("worker_enable_remote_control", True)
        ]
        return subscribers(self.redis(mine.broker, 0), mine.db) >= len(wanted)

    def _worker_ended(self, worker: Worker, child: Child) -> None:
        self._offline(worker.source, child, asked=worker.asked_to_end)

    def _broker_ended(self, source: str) -> Callable[[Child, bool], None]:
        return lambda child, asked: self._offline(source, child, asked=asked)

    def _offline(self, source: str, child: Child, *, asked: bool) -> None:
        ended = child.exit
        assert ended is not None
        self._live.emit(
            "offline", source=source, code=ended.code, signal=ended.signal, ended=child.pid, asked=asked, reaped=ended.t
        )
