"""One environment in which a worker is killed again and again, and what it leaves is looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.store import write_history
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.child import Child
from pytest_celery_chaos.values import Provider
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.spec import WorkerSpec

INSIDE = Path(__file__).parent / "inside"
#: Seconds that anything here may take on a machine with many others at work.
PATIENCE = 60.0
#: A server for each pool: what is left must not depend on it.
SERVERS = {"prefork": ("valkey", "9.1"), "solo": ("redis", "6.2"), "threads": ("valkey", "8.1")}
#: And the images, where all runs in containers.
CONTAINERS = {"prefork": ("valkey/valkey:8.1", "valkey"), "solo": ("redis:7.0", "redis")}
WORKER = "celery-chaos/worker:5.7"


@dataclass(frozen=True)
class Left:
    """What a killed worker left behind.

    :param queue: messages that wait, *unacked* and *index*: entries of those keys, *mutex*: whether it is set.
    :param result: the state that the result backend has of the task, *ran*: how often its body really ran.
    """

    queue: int
    unacked: int
    index: int
    mutex: bool
    result: str | None
    ran: int


class Bench:
    """A broker, a client and worker *a*, which is started as often as it has been killed.

    :param config: settings over late acknowledgement.
    :param provider: where broker and worker run.
    """

    def __init__(
        self,
        pool: str,
        store: Path,
        *,
        concurrency: int = 1,
        config: Mapping[str, Any] | None = None,
        provider: Provider = "local",
    ) -> None:
        server, version = SERVERS[pool]
        worker = WorkerSpec(
            "a",
            pool=pool,  # type: ignore[arg-type]
            concurrency=concurrency,
            profile="fast",
            start=False,
            options=["--include", "refusing"],
            env={"PYTHONPATH": os.pathsep.join([str(INSIDE), os.environ.get("PYTHONPATH", "")])},
            provider=provider,
        )
        broker = BrokerSpec(server=server, version=version)  # type: ignore[arg-type]
        if provider == "container":
            broker = BrokerSpec(image=CONTAINERS[pool][0], server=CONTAINERS[pool][1])  # type: ignore[arg-type]
        plan = Plan(
            f"exactness {pool}",
            config={"task_acks_late": True, **(config or {})},
            broker=broker,
            workers={"a": worker},
        )
        self.pool = pool
        self.session = Session(store)
        self.run = Run(plan, self.session)
        self.chaos = Chaos(self.run)
        self._labels = 0
        try:
            self.run.environment.start()
        except BaseException:
            self.close()
            raise

    # -- one life of the worker -----------------------------------------------------------------------------------

    def clean(self) -> str:
        """Leave no message and no result of the life before; returns a name for the next task."""
        self.kill()
        broker = self.run.environment.servers.redis("main", 0)
        broker.delete("celery", "unacked", "unacked_index", "unacked_mutex")
        self.run.environment.results().flushdb()
        self._labels += 1
        return f"job-{self._labels}"

    def start(self, *, ready: bool = True) -> None:
        self.chaos.start(worker="a", ready=ready)

    @property
    def worker(self) -> Worker:
        return self.run.worker("a")

    def kill(self) -> None:
        if self.worker.alive:
            child = self.child
            self.worker.kill(9)
            child.wait(PATIENCE)

    @property
    def child(self) -> Child:
        assert self.worker.child is not None
        return self.worker.child

    def kill_at(self, side: str, point: str, task: str | None) -> int:
        """Arm the kill of the worker's whole group; returns the number of the step."""
        when = {side: point, "worker": "a", "timeout": PATIENCE, **({"task": task} if task else {})}
        self.chaos.kill(worker="a", when=when)
        return self.chaos._steps

    def killed(self, step: int) -> Event:
        """Wait until the armed kill has been carried out; returns the event that the worker died at."""
        self.until(lambda e: e.kind == "fault" and e.phase == "ok" and e.attrs["index"] == step, "the kill")
        number = next(e for e in self.run.live.read() if e.kind == "armed" and e.attrs["index"] == step).attrs["rule"]
        return next(e for e in self.run.live.read() if e.kind == "held" and number in e.attrs["rules"])

    def until(self, matches: Any, what: str) -> Event:
        return wait.until(
            lambda: self.run.live.find(matches), what=what, timeout=PATIENCE, last=self.run.live.last_words
        )

    def send(self, label: str, task: str, **options: Any) -> None:
        self.chaos.send(task=task, name=label, timeout=PATIENCE, **options)

    def wait_for(self, label: str, kind: str, phase: str | None = None) -> Event:
        """The event of that kind of the task called *label*."""
        prefix = self.run.prefix_of(label)
        return self.until(
            lambda e: e.kind == kind and e.phase == phase and (e.task or "").startswith(prefix), f"{kind} of {label}"
        )

    def lay_due(self, label: str) -> None:
        """Turn what waits in the queue into what a worker that was killed long ago has received."""
        import json

        broker = self.run.environment.servers.redis("main", 0)
        while (message := broker.rpop("celery")) is not None:
            tag = json.loads(message)["properties"]["delivery_tag"]  # type: ignore[arg-type]
            text = message if isinstance(message, bytes) else str(message).encode()
            broker.hset("unacked", tag, b'[%s, "", "celery"]' % text)
            broker.zadd("unacked_index", {tag: 0})

    # -- what is left ---------------------------------------------------------------------------------------------

    def left(self, label: str) -> Left:
        """What lies in the keys, and how often the body of *label* ran."""
        keys = self.chaos.keys()
        prefix = self.run.prefix_of(label)
        states = {state for one, state in keys["results"].items() if one.startswith(prefix)}
        assert len(states) <= 1, f"one task, several states: {keys['results']}"
        return Left(
            queue=len(keys["queues"]["celery"]),
            unacked=len(keys["unacked"]),
            index=len(keys["index"]),
            mutex=keys["mutex"],
            result=next(iter(states), None),
            ran=sum(line.startswith(prefix) for line in self.executions()),
        )

    def executions(self) -> Sequence[str]:
        """The lines that task bodies have left outside Redis."""
        path = self.run.folder.path / "executions.txt"
        return path.read_text().splitlines() if path.exists() else []

    def life(self, label: str) -> list[str]:
        """What the worker wrote about the task: ``received``, ``ack:ok``; but for what its main process hears of a
        child that is held (`accepted`)."""
        prefix = self.run.prefix_of(label)
        events = (e for e in self.chaos.history.events if e.role == "worker" and (e.task or "").startswith(prefix))
        return [f"{e.kind}:{e.phase}" if e.phase else e.kind for e in events if e.kind != "accepted"]

    def close(self) -> History:
        """End everything; returns the whole history, in which every event must be that was read while it happened."""
        finish(self.run, self.session)
        read = list(self.run.live.read())
        self.run.live.close()
        history = write_history(self.run.folder.path)
        self.session.close()
        there = {(e.source, e.pid, e.n, e.t) for e in history.events}
        gone = [e for e in read if (e.source, e.pid, e.n, e.t) not in there]
        assert not gone, f"{len(gone)} events were read and are not in the history: {gone[:3]}"
        return history
