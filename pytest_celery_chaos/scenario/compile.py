"""From a scenario to plans: variants, and what the command line chose, filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pytest_celery_chaos.brokers.spec import BrokerSpec, Server
from pytest_celery_chaos.clients.spec import BeatSpec, ClientSpec
from pytest_celery_chaos.engine.plan import AppSpec, Plan
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario.model import Format, Scenario
from pytest_celery_chaos.scenario.problems import nearest
from pytest_celery_chaos.scenario.read import load_scenario
from pytest_celery_chaos.scenario.vocabulary import Vocabulary
from pytest_celery_chaos.values import ClientLibrary
from pytest_celery_chaos.workers.spec import Pool, WorkerSpec


def plans_of(
    path: Path | str,
    *,
    server: str | None = None,
    pool: str | None = None,
    client: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> list[Plan]:
    """The plans of a scenario file: :func:`load_scenario` and :func:`compile_scenario`."""
    return compile_scenario(load_scenario(path, vocabulary), server=server, pool=pool, client=client)


def compile_scenario(
    scenario: Scenario, *, server: str | None = None, pool: str | None = None, client: str | None = None
) -> list[Plan]:
    """One plan for each variant.

    :param server: ``valkey``, ``redis`` or one with its version (``valkey-9.1``), instead of what the file says.
        A backend that states a server of its own keeps it.
    :param pool: for the workers that do not state theirs. Where there is none, or the file's ``pools`` leave it out,
        the plan says so in ``skip``.
    :param client: the library by which Celery reaches its servers (``redis``, ``valkey``), instead of what the file
        says; an application that states its own keeps it.
    :raises UsageError: *server*, *pool* or *client* is unknown.
    """
    chosen = server_of(server) if server else None
    if pool is not None and pool not in get_args(Pool):
        raise UsageError(f"no pool is called {pool!r}", hint=nearest(pool, get_args(Pool)))
    if client is not None and client not in get_args(ClientLibrary):
        raise UsageError(f"no client library is called {client!r}", hint="write redis or valkey")
    return [_plan(scenario.file, name, said, chosen, pool, client) for name, said in scenario.formats.items()]


def server_of(text: str) -> Mapping[str, Any]:
    name, _, version = text.partition("-")
    if name not in get_args(Server) or (not version and "-" in text):
        raise UsageError(f"no server is called {text!r}", hint="write valkey, redis, or valkey-9.1")
    return {"server": name, "version": version or None}


def _on(spec: BrokerSpec, server: Mapping[str, Any]) -> BrokerSpec:
    """The same on another server; an address, or an image that is named, is what it is."""
    return spec if spec.address or spec.image else replace(spec, **server, path=None)


def _plan(
    file: str,
    variant: str | None,
    said: Format,
    server: Mapping[str, Any] | None,
    pool: str | None,
    client: Any,
) -> Plan:
    library = client or said.client
    broker = BrokerSpec(**said.broker)
    backend = None if said.backend is None else BrokerSpec(**said.backend, name="backend")
    if server:
        broker = _on(broker, server)
        if backend and said.backend is not None and not said.backend.keys() & {"server", "version", "path"}:
            backend = _on(backend, server)
    default: Any = pool or (said.pools[0] if said.pools else WorkerSpec.pool)
    workers = {
        name: WorkerSpec(**{"pool": default, "profile": said.profile, **given}, name=name)
        for name, given in said.workers.items()
    }
    clients = {name: ClientSpec(**given, name=name) for name, given in (said.clients or {"main": {}}).items()}
    return Plan(
        scenario=said.scenario,
        variant=variant,
        file=file,
        about=said.about,
        refs=said.refs,
        app=said.app,
        config=said.config,
        apps={name: AppSpec(**given) for name, given in said.apps.items()},
        client=library,
        clients=clients,
        beats={name: BeatSpec(**given, name=name) for name, given in said.beats.items()},
        queues=said.queues,
        links=said.links,
        proxy=said.proxy,
        broker=broker,
        backend=backend,
        workers=workers,
        steps=[entry.step for entry in said.steps],
        observe=said.observe,
        quiet=said.quiet,
        expect=[entry.expectation for entry in said.expect],
        axes={
            "server": "-".join(filter(None, (broker.server, broker.version))),
            "client": library,
            "pool": "+".join(dict.fromkeys(worker.pool for worker in workers.values())),
        },
        skip=_skip(said, pool),
    )


def _skip(said: Format, pool: str | None) -> str | None:
    if pool is None:
        return None
    stated = {given["pool"] for given in said.workers.values() if "pool" in given}
    if all("pool" in given for given in said.workers.values()) and stated != {pool}:
        return f"every worker states its pool ({', '.join(sorted(stated))}): {pool} would change nothing"
    if said.pools and pool not in said.pools:
        return f"makes sense on {', '.join(said.pools)} only, not on {pool}"
    return None
