"""What is in force in the workers, whatever was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import WorkerRef


def in_force(history: History, *, setting: str, value: Any, worker: WorkerRef | None = None) -> Finding:
    """A setting must have this value in every worker that was ready, as the worker itself reports it.

    *seen*: the other value, where it is a number. Inconclusive where no worker reported the setting.

    :param setting: by Celery's name, or a transport option by its own: ``visibility_timeout``,
        ``unacked_restore_interval``, ``worker_prefetch_multiplier`` …
    :param value: what it must be.
    :param worker: only in this worker.
    """
    reports = [e for e in history.of("ready") if worker in (None, e.name)]
    held = [(e, dict(e.attrs.get("settings") or {})) for e in reports]
    known = [(e, settings[setting]) for e, settings in held if setting in settings]
    if not known:
        near = sorted({name for _, settings in held for name in settings})
        return view.inconclusive(f"no worker reported {setting!r}" + (f"; reported: {', '.join(near)}" if near else ""))
    for event, found in known:
        if not _same(found, value):
            figure = found if isinstance(found, (int, float)) and not isinstance(found, bool) else None
            return Finding("violated", f"{setting} is {found!r} in {event.source}, not {value!r}", figure, (event,))
    return Finding("holds", f"{setting} is {value!r} in {view.plural(len(known), 'worker')}", None)


def _same(found: Any, value: Any) -> bool:
    if isinstance(found, Mapping) and isinstance(value, Mapping):
        return all(key in found and _same(found[key], each) for key, each in value.items())
    return bool(found == value and isinstance(found, bool) == isinstance(value, bool))
