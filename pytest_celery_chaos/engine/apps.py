"""The applications of a plan: their settings, and where they keep their messages and results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pytest_celery_chaos.brokers.keyspace import Keyspace
from pytest_celery_chaos.engine.plan import AppSpec, Plan
from pytest_celery_chaos.values import ClientLibrary

#: The application that the file's own `app` and `config` describe.
MAIN = "main"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings *above* laid over those *below*; nested ones (`broker_transport_options`) key by key."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def app_of(plan: Plan, name: str) -> AppSpec:
    """One application of the plan; ``main`` is always there."""
    return plan.apps.get(name) or AppSpec()


def target(plan: Plan, name: str) -> str:
    """The application as ``celery -A`` takes it, or ``builtin``."""
    return app_of(plan, name).app or plan.app


def config_of(plan: Plan, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Celery settings of a process: the file's, the application's over them, then the process's *own*."""
    return merged(merged(plan.config, app_of(plan, name).config), own)


def keyspace_of(plan: Plan, name: str, own: Mapping[str, Any]) -> Keyspace:
    """Where a process of the application *name* with settings of its *own* keeps messages and results."""
    app, config = app_of(plan, name), config_of(plan, name, own)
    backend = app.backend or ("backend" if plan.backend else app.broker)
    result_db = app.result_db if app.result_db is not None else (1 if backend == app.broker else 0)
    return Keyspace(
        name,
        broker=app.broker,
        db=app.db,
        prefix=_prefix(config, "broker_transport_options"),
        backend=backend,
        result_db=result_db,
        result_prefix=_prefix(config, "result_backend_transport_options"),
    )


def settings_of(
    plan: Plan,
    name: str,
    own: Mapping[str, Any],
    url: Callable[[Literal["broker", "backend"], str, int], str],
    options: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> dict[str, Any]:
    """What is laid over the settings of a process: addresses, queues, then what the file says (:func:`config_of`).

    :param url: the address of one of a server's databases, as the process's broker or its result backend.
    :param options: what kombu and Celery must be told beside the address of a server.
    """
    space = keyspace_of(plan, name, own)
    library = app_of(plan, name).client or plan.client
    settings: dict[str, Any] = {
        "broker_url": _by(library, url("broker", space.broker, space.db)),
        "result_backend": _by(library, url("backend", space.backend, space.result_db)),
    }
    for setting, server in (
        ("broker_transport_options", space.broker),
        ("result_backend_transport_options", space.backend),
    ):
        if given := options(server):
            settings[setting] = dict(given)
    if plan.queues:
        settings["task_queues"] = {
            queue: {("exchange_type" if key == "type" else key): value for key, value in options.items()}
            for queue, options in plan.queues.items()
        }
    return merged(settings, config_of(plan, name, own))


def _by(library: ClientLibrary, url: str) -> str:
    """The same address, or addresses of Sentinels, for Celery on that library: a scheme of its own."""
    if library == "redis":
        return url
    return ";".join(f"valkey{each.removeprefix('redis')}" for each in url.split(";"))


def processes(plan: Plan) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Of each process (``worker:a``), its application and its own settings."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for role, specs in (("client", plan.clients), ("worker", plan.workers), ("beat", plan.beats)):
        for name, spec in specs.items():
            found[f"{role}:{name}"] = spec.app, spec.config
    return found


def spaces(plan: Plan) -> dict[str, Keyspace]:
    """The keyspace of each process; that of the main application, where it is in use, comes first."""
    found = {source: keyspace_of(plan, app, own) for source, (app, own) in processes(plan).items()}
    return dict(sorted(found.items(), key=lambda pair: pair[1].app != MAIN))


def places(plan: Plan) -> dict[str, str]:
    """In words, where each process's messages are; processes with the same share queues and `unacked`."""
    found = {source: space.messages for source, space in spaces(plan).items()}
    return {
        source: f"{broker}/{db}" + (f"/{prefix}" if prefix else "") for source, (broker, db, prefix) in found.items()
    }


def _prefix(config: Mapping[str, Any], options: str) -> str:
    found = config.get(options)
    return str(found.get("global_keyprefix") or "") if isinstance(found, Mapping) else ""
