"""Real workers with the recorder inside, started as a user starts them, and what their ledgers say."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pytest_celery_chaos.workers
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.engine.gate import Gate
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Child, Keeper
from pytest_celery_chaos.workers.recorded import VALKEY, by_valkey
from pytest_celery_chaos.workers.runtime import python_for

INSIDE = Path(pytest_celery_chaos.workers.__file__).parent / "inside"
FAST = ("--without-gossip", "--without-mingle", "--without-heartbeat")
VERSIONS = ("5.3", "5.4", "5.5", "5.6", "5.7")
#: Each of them takes an environment of its own and half a minute: those between are tried by hand.
BETWEEN = ("5.4", "5.5", "5.6")
SOAK = pytest.mark.soak
EACH_VERSION = [pytest.param(version, marks=SOAK) if version in BETWEEN else version for version in VERSIONS]
POOLS = ("prefork", "solo", "threads")
TASKS = "celery_chaos_tasks:app"


def read(folder: Path) -> list[Event]:
    """All events of the ledgers in *folder*, sorted; a torn last line (a kill) is left out."""
    events = []
    for path in folder.glob("*.ndjson"):
        lines = path.read_bytes().split(b"\n")
        assert not lines[-1] or not lines[-1].endswith(b"}"), "a whole line without an end"
        events += [Event.from_record(json.loads(line)) for line in lines[:-1] if line]
    return sorted(events, key=lambda event: (event.t, event.pid, event.n))


def step(event: Event) -> str:
    """``ack:ok``, ``started``."""
    return f"{event.kind}:{event.phase}" if event.phase else event.kind


def life(events: Sequence[Event], task: str) -> list[str]:
    """What happened to one task, in order; but for `accepted`, which another process writes while the task runs."""
    return [step(event) for event in events if event.task == task and event.kind != "accepted"]


def in_order(steps: Sequence[str], *wanted: str) -> bool:
    """Whether *wanted* is in *steps* in this order, others between."""
    rest = iter(steps)
    return all(any(step == each for step in rest) for each in wanted)


@dataclass
class Process:
    """One recorded process and its ledgers."""

    child: Child
    folder: Path
    log: Path

    @property
    def events(self) -> list[Event]:
        return read(self.folder)

    def of(self, kind: str, phase: str | None = None, task: str | None = None) -> list[Event]:
        return [
            event
            for event in self.events
            if event.kind == kind and (phase is None or event.phase == phase) and (task is None or event.task == task)
        ]

    def until(
        self, kind: str, phase: str | None = None, task: str | None = None, *, n: int = 1, timeout: float = 20
    ) -> Event:
        """The *n*-th such event, once it is there."""

        def there() -> Event | None:
            found = self.of(kind, phase, task)
            if len(found) >= n:
                return found[n - 1]
            assert self.child.alive or kind in ("hello", "shutdown"), f"it has ended: {self.tail()}"
            return None

        return wait.until(there, what=f"{kind} {phase or ''} {task or ''}", timeout=timeout, last=self.tail, every=0.02)

    def tail(self) -> str:
        return "\n".join([*self.log.read_text(errors="replace").splitlines()[-15:], *map(step, self.events[-12:])])

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 20) -> Any:
        self.child.signal(sig)
        return self.child.wait(timeout)

    def kill(self) -> None:
        if self.child.alive:
            self.child.signal(signal.SIGKILL, group=True)
            self.child.wait(10)


@dataclass
class Lab:
    """Starts workers and clients against one server."""

    keeper: Keeper
    server: LocalServer
    folder: Path
    control: Path
    gate: Gate
    processes: list[Process] = field(default_factory=list)
    clients: list[Any] = field(default_factory=list)

    @property
    def addresses(self) -> dict[str, str]:
        return {"broker_url": self.server.url(0), "result_backend": self.server.url(1)}

    def worker(
        self,
        version: str = "5.7",
        pool: str = "prefork",
        *,
        app: str = TASKS,
        name: str = "a",
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = FAST,
        concurrency: int = 1,
        path: Path | None = None,
        recorded: bool = True,
        ready: bool = True,
        celery: Sequence[str] = ("-m", "celery"),
        packages: tuple[str, ...] = (),
    ) -> Process:
        """A worker that has said ready. *settings* come on top of the addresses; *path* is the application's folder.

        *packages* are installed beside Celery.
        """
        command = [*celery, "-A", app, "worker", "-l", "INFO", "-P", pool, "-c", str(concurrency)]
        command += ["-n", f"{name}@lab", *options]
        process = self.python(
            version,
            command,
            source=f"worker:{name}",
            settings=settings,
            env=env,
            path=path,
            recorded=recorded,
            packages=packages,
        )
        if ready and recorded:
            process.until("ready")
            self.until_listening(process)
        return process

    def until_listening(self, process: Process) -> None:
        """Until remote control is heard: a worker says ready before it subscribes, and pub/sub keeps nothing."""
        workers = sum(each.child.alive and each.child.name.startswith("worker:") for each in self.processes)

        def listening() -> bool:
            clients = self.server.client(0).client_list()
            return sum(int(each["psub"]) > 0 for each in clients) >= workers

        wait.until(listening, what="the worker to subscribe", timeout=20, last=process.tail)

    def python(
        self,
        version: str,
        command: Sequence[str],
        *,
        source: str,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        path: Path | None = None,
        recorded: bool = True,
        packages: tuple[str, ...] = (),
    ) -> Process:
        """A Python of that Celery's environment."""
        folder = self.folder / f"{source.replace(':', '-')}-{len(self.processes)}"
        folder.mkdir()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("CELERY_", "PYTHON"))}
        where = [str(INSIDE)] if recorded else []
        environment["PYTHONPATH"] = os.pathsep.join([*where, *([str(path)] if path else []), str(INSIDE)])
        if recorded:
            environment["CELERY_CHAOS_LEDGERS"] = str(folder)
            environment["CELERY_CHAOS_SOURCE"] = source
            environment["CELERY_CHAOS_CONTROL"] = str(self.control)
            laid = {**self.addresses, **(settings or {})}
            environment["CELERY_CHAOS_SETTINGS"] = json.dumps(laid)
            if by_valkey(laid):
                environment["CELERY_CHAOS_VALKEY"] = str(VALKEY)
                packages = (*packages, "valkey")
        log = folder / "log"
        child = self.keeper.spawn(
            source,
            [str(python_for(version, packages)), *command],
            env={**environment, **(env or {})},
            cwd=folder,
            log=log,
        )
        process = Process(child, folder, log)
        self.processes.append(process)
        return process

    def client(self) -> Any:
        """A Celery application of the test's own, to publish with."""
        from celery import Celery

        addresses = self.addresses
        app = Celery("lab", broker=addresses["broker_url"], backend=addresses["result_backend"], set_as_current=False)
        app.conf.broker_connection_retry_on_startup = True
        self.clients.append(app)
        return app

    def keys(self, queues: Sequence[str] = ("celery",)) -> dict[str, Any]:
        from pytest_celery_chaos.brokers import keys

        return keys.snapshot(self.server.client(0), self.server.client(1), queues)

    def disarm(self, armed: Any) -> None:
        """Hold nobody there any more, and let go of who is."""
        self.gate.disarm(armed)

    def renew(self) -> None:
        """A control folder of its own for what is started from now on."""
        self.control = self.keeper.temp_folder()
        self.gate = Gate(self.control, lambda *_, **__: None)  # type: ignore[arg-type]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for app in self.clients:
            leave_results_alone(app.backend)
