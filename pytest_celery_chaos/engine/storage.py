"""The harness's look at what is stored and who is connected: a ``storage`` event of the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.brokers.storage import Tenant, read
from pytest_celery_chaos.history.event import Event

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def measure(run: Run, name: str | None) -> Event:
    """Write down what every server stores, by role, and who is connected to it; a few milliseconds.

    :param name: ``start``, ``end``, or the name of the step that asked for it.
    """
    processes = {
        event.pid: event.source for event in run.live.read() if event.kind == "hello" and event.source != "harness"
    }
    spaces = tenants(run)
    servers = [name for name in dict.fromkeys(name for name, _ in spaces) if not run.broker(name).spec.socket]
    owners = {name: run.links.owners(name, processes) for name in servers}
    found = read(spaces, run.environment.servers.redis, owners)
    return run.live.emit("storage", name=name, **found)


def tenants(run: Run) -> dict[tuple[str, int], list[Tenant]]:
    """Which applications use which database of which server, and for what."""
    found: dict[tuple[str, int], list[Tenant]] = {}
    queues = run.queues()
    for space in run.keyspaces():
        naming = Naming(queues.get(space.messages, ()), space.prefix, space.result_prefix)
        broker, backend = (space.broker, space.db), (space.backend, space.result_db)
        found.setdefault(broker, []).append(Tenant(naming, results=broker == backend))
        if backend != broker:
            found.setdefault(backend, []).append(Tenant(naming, messages=False))
    return found
