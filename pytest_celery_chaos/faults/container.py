"""Faults that an orchestrator brings: what runs is put away for another, or loses its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_celery_chaos.brokers.container import ContainerServer
from pytest_celery_chaos.brokers.server import RedisServer
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.faults.process import stop
from pytest_celery_chaos.values import BrokerRef, Duration, WorkerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def recreate(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    data: Literal["keep", "lose"] = "lose",
    how: Literal["warm", "soft", "cold", "kill"] = "kill",
    grace: Duration = 30.0,
) -> None:
    """Put a new container in the place of one, as an orchestrator does. A process of this machine starts anew.

    A server comes back at its address. A container has another host name than the one before, unless it is given.

    :param worker: the worker, by name. What it kept outside of the run's folder (``statedb: file``) is gone.
    :param broker: the server, by name, instead of a worker.
    :param data: of a broker: ``lose`` gives it an empty disk, ``keep`` the volume of the one before.
    :param how: how it ends, if it runs, as in ``stop``.
    :param grace: as in ``stop``.
    :raises UsageError: none or both were named.
    """
    if (worker is None) == (broker is None):
        raise UsageError("name one of: worker, broker", where=run.step.place, hint="for example `{broker: main}`")
    victim = run.worker(worker) if worker is not None else run.broker(str(broker))
    if victim.alive:
        stop(run, worker=worker, broker=broker, how=how, grace=grace)
    if isinstance(victim, RedisServer):
        victim.recreate(data)
        run.environment.servers.online(victim)
        return
    if victim.container is not None:
        victim.container.renew()
    run.environment.start_process(victim)


def disconnect(run: Run, *, broker: BrokerRef = "main") -> Heal:
    """Take a container off its network (docker network disconnect). Heals by putting it back, at its address.

    Nobody is told: connections stay open on both sides, and what is sent is lost until the container is back or a
    time-out ends them. Only at the published port are they closed, by the engine.

    :param broker: the server, by name.
    :raises UsageError: the server is no container.
    """
    server = run.broker(broker)
    if not isinstance(server, ContainerServer):
        raise UsageError(
            f"broker {broker!r} is a process of this machine, on no network of its own",
            where=run.step.place,
            hint="run it in a container (`provider: container`), or use `freeze` or `partition` on links",
        )
    server.disconnect()
    return lambda: server.connect() if server.alive else None
