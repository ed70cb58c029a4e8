"""Faults that an orchestrator brings: what runs is put away for another, or loses its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_celery_chaos.brokers.container import ContainerServer
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import BrokerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def recreate(run: Run, *, broker: BrokerRef = "main", data: Literal["keep", "lose"] = "lose") -> None:
    """Put a new server in the place of one, at its address, as an orchestrator replaces a container.

    It is killed if it runs. In a container it comes back as another container, with another host name.

    :param broker: the server, by name.
    :param data: ``lose`` gives it an empty disk, ``keep`` the volume of the one before.
    """
    run.broker(broker).recreate(data)
    run.environment.online(broker)


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
