"""What is really in force in a worker that has just become ready, whatever was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from . import overlay
from .hooks_state import known
from .ledger import redact
from .patches import version_of
from .record import MOST_IDS, versions

SETTINGS = (
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_acks_on_failure_or_timeout",
    "task_track_started",
    "task_ignore_result",
    "worker_soft_shutdown_timeout",
    "worker_enable_soft_shutdown_on_idle",
    "worker_cancel_long_running_tasks_on_connection_loss",
    "worker_enable_remote_control",
    "result_expires",
)
TASK_OPTIONS = (
    "acks_late",
    "reject_on_worker_lost",
    "acks_on_failure_or_timeout",
    "ignore_result",
    "max_retries",
    "time_limit",
    "track_started",
)
MOST_TASKS = 200
#: Settings for which the command line wins: the worker's own attribute is what holds.
_WORKER = {
    "task_soft_time_limit": "soft_time_limit",
    "task_time_limit": "time_limit",
    "worker_concurrency": "concurrency",
    "worker_disable_rate_limits": "disable_rate_limits",
    "worker_lost_wait": "worker_lost_wait",
    "worker_max_memory_per_child": "max_memory_per_child",
    "worker_max_tasks_per_child": "max_tasks_per_child",
    "worker_prefetch_multiplier": "prefetch_multiplier",
    "worker_send_task_events": "task_events",
    "worker_state_db": "statedb",
    "worker_timer_precision": "timer_precision",
}
#: kombu before 5.7 sweeps at this pace, whatever the transport options say.
_FIXED_SWEEP = {"unacked_restore_interval": 10, "unacked_restore_throttle": 10}


def report(consumer: Any) -> dict[str, Any]:
    """The attributes of a `ready` event; what cannot be found out says so in its place."""
    worker, app = consumer.controller, consumer.app
    channel = getattr(consumer.task_consumer, "channel", None)
    names = sorted(name for name in app.tasks if not name.startswith("celery."))
    return {
        "hostname": consumer.hostname,
        "pool": _attempt(lambda: _pool(worker)),
        "concurrency": worker.concurrency,
        "queues": _attempt(lambda: sorted(app.amqp.queues.consume_from)),
        "versions": versions(),
        "settings": settings(consumer, channel),
        "overlay": {key: _attempt(check) is True for key, check in _checks(consumer, channel)},
        "tasks": {name: _options(app.tasks[name]) for name in names[:MOST_TASKS]},
        "tasks_in_all": len(names),
        "revoked": _attempt(_revoked),
    }


def _attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:
        return f"unreadable: {type(error).__name__}: {error}"[:120]


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return redact(value)


def _pool(worker: Any) -> str:
    name = type(worker.pool).__module__.rpartition(".")[2]
    return "threads" if name == "thread" else name


def _revoked() -> dict[str, Any]:
    ids = known()
    return {"count": len(ids), "ids": ids[:MOST_IDS]}


def _options(task: Any) -> dict[str, Any]:
    return {name: _plain(getattr(task, name)) for name in TASK_OPTIONS if hasattr(task, name)}


def settings(consumer: Any, channel: Any) -> dict[str, Any]:
    """Settings by Celery's names, and those of kombu's Redis transport as its channel has them."""
    app, connection = consumer.app, consumer.connection
    found = {name: _attempt(partial(_setting, app, name)) for name in SETTINGS if name in app.conf}
    found["broker_url"] = redact(_attempt(lambda: connection.as_uri(include_password=True)))
    found["result_keyprefix"] = (app.conf.get("result_backend_transport_options") or {}).get("global_keyprefix")
    found["result_backend"] = redact(_attempt(lambda: _backend(app)))
    found["worker_prefetch_multiplier"] = consumer.controller.prefetch_multiplier
    options = ("visibility_timeout", "unacked_restore_limit", "queue_order_strategy", "brpop_timeout", "socket_timeout")
    for name in (*options, *_FIXED_SWEEP, "health_check_interval"):
        value = _attempt(partial(channel_value, connection, channel, name))
        if value is not None:
            found[name] = value
    found["transport_options"] = {
        str(key): "***" if "password" in str(key) else _plain(value)
        for key, value in (connection.transport_options or {}).items()
        if isinstance(value, (str, int, float, bool, list, type(None)))
    }
    return found


def _setting(app: Any, name: str) -> Any:
    return _plain(app.conf[name])


def channel_value(connection: Any, channel: Any, name: str) -> Any:
    """A transport option as it works: from the channel, and of the sweep what this kombu really does."""
    if name in _FIXED_SWEEP:
        if version_of("kombu") < (5, 7):
            return _FIXED_SWEEP[name]
        if name == "unacked_restore_interval":  # the transport reads it itself, and takes no zero
            value = (connection.transport_options or {}).get(name, type(channel).unacked_restore_interval)
            return value if value > 0 else type(channel).unacked_restore_interval
    if hasattr(channel, name):
        return getattr(channel, name)
    return (connection.transport_options or {}).get(name)


def _backend(app: Any) -> Any:
    backend = app.backend
    return getattr(backend, "url", None) or backend.as_uri(include_password=True)


def _checks(consumer: Any, channel: Any) -> list[tuple[str, Callable[[], bool]]]:
    """For each setting laid over, by its name (entries of a dict: ``broker_transport_options.KEY``), its check."""
    checks: list[tuple[str, Callable[[], bool]]] = []
    for name, value in overlay.laid().items():
        if isinstance(value, Mapping):
            for key, inner in value.items():
                checks.append((f"{name}.{key}", partial(_holds_in, consumer, channel, name, key, inner)))
        else:
            checks.append((name, partial(_holds, consumer, name, value)))
    return checks


def _holds(consumer: Any, name: str, value: Any) -> bool:
    app = consumer.app
    if name in ("broker_url", "broker_read_url"):
        asked = type(consumer.connection)(overlay.laid()["broker_read_url"] if name == "broker_read_url" else value)
        return bool(asked.as_uri(include_password=True) == consumer.connection.as_uri(include_password=True))
    if name == "broker_write_url":
        return bool(app.conf.broker_write_url == value)
    if name == "result_backend":
        if not value or str(value).startswith("disabled"):
            return type(app.backend).__name__ == "DisabledBackend"
        # Of a unix socket's `redis+socket://` Celery gives its backend the second half.
        both = (str(each).removeprefix("redis+").removeprefix("valkey+").rstrip("/") for each in (_backend(app), value))
        mine, asked_for = both
        return mine == asked_for
    worker = consumer.controller
    if name in _WORKER and hasattr(worker, _WORKER[name]):
        return bool(getattr(worker, _WORKER[name]) == value)
    return bool(app.conf[name] == value)


def _holds_in(consumer: Any, channel: Any, name: str, key: str, value: Any) -> bool:
    if name == "broker_transport_options":
        found = channel_value(consumer.connection, channel, key)
    else:
        found = consumer.app.conf[name].get(key)
    return bool(found == value or (isinstance(value, Mapping) and overlay.merged(found or {}, value) == found))
