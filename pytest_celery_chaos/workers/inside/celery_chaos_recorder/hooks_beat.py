"""``celery beat``: its first tick, each entry that is due, and each write of the schedule to its file."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from threading import local
from types import ModuleType
from typing import Any

from . import overlay
from .describe import failure
from .patches import wrap
from .record import emit, versions

Method = Callable[..., Any]

#: By entry of the schedule, the beginning of the ids that it publishes: so that its name can stand for them.
LABELS = "CELERY_CHAOS_LABELS"


class _Now(local):
    prefix: str | None = None


_now = _Now()
_ticking = False


def _get_scheduler(original: Method) -> Method:
    """Watch the scheduler that the service works with, of whatever class; a lazy one is made for its name only."""

    def get_scheduler(self: Any, lazy: bool = False, *args: Any, **kwargs: Any) -> Any:
        scheduler = original(self, lazy, *args, **kwargs)
        if not lazy:
            labels = json.loads(os.environ.get(LABELS) or "{}")
            for name, make in (("tick", _tick), ("apply_entry", _apply_entry(labels))):
                setattr(scheduler, name, make(scheduler, getattr(scheduler, name)))
        return scheduler

    return get_scheduler


def _tick(scheduler: Any, original: Method) -> Method:
    def tick(*args: Any, **kwargs: Any) -> Any:
        global _ticking
        if not _ticking:
            _ticking = True
            try:
                report = _report(scheduler)
            except Exception as error:
                report = {"unreported": failure(error)}
            emit("ticking", **report)
        return original(*args, **kwargs)

    return tick


def _report(scheduler: Any) -> dict[str, Any]:
    conf = scheduler.app.conf
    return {
        "dbm": _dbm(scheduler),
        "scheduler": f"{type(scheduler).__module__}.{type(scheduler).__qualname__}",
        "entries": {name: _entry(entry) for name, entry in scheduler.schedule.items()},
        "max_interval": scheduler.max_interval,
        "settings": {name: getattr(scheduler, name, None) for name in ("sync_every", "sync_every_tasks")},
        "overlay": {name: _holds(conf, name, value) for name, value in overlay.laid().items()},
        "versions": versions(),
    }


def _dbm(scheduler: Any) -> str | None:
    """Which dbm keeps the schedule's file: ``gnu``, ``ndbm``, ``sqlite3``, ``dumb``."""
    import dbm

    name = getattr(scheduler, "schedule_filename", None)
    found = dbm.whichdb(name) if name else None
    return found.removeprefix("dbm.") if found else None


def _holds(conf: Any, name: str, value: Any) -> bool:
    found = conf[name]
    return bool(found == value or (isinstance(value, dict) and overlay.merged(found, value) == found))


def _entry(entry: Any) -> dict[str, Any]:
    """What is known of an entry: its period, how often it ran, and how long ago it ran last or was made (s)."""
    ago = (entry.default_now() - entry.last_run_at).total_seconds()
    run_every = getattr(entry.schedule, "run_every", None)  # a crontab has none
    every = run_every.total_seconds() if run_every is not None else None
    return {"task": entry.task, "every": every, "count": entry.total_run_count, "ago": round(ago, 3)}


def _apply_entry(labels: dict[str, str]) -> Callable[[Any, Method], Method]:
    def make(scheduler: Any, original: Method) -> Method:
        def apply_entry(entry: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                emit("due", entry=entry.name, **_entry(entry))
            except Exception as error:
                emit("due", entry=entry.name, undescribed=failure(error))
            _now.prefix = labels.get(entry.name)
            try:
                return original(entry, *args, **kwargs)
            finally:
                _now.prefix = None

        return apply_entry

    return make


def _send_task(original: Method) -> Method:
    """Give what a labelled entry publishes an id that begins with the label's prefix."""

    def send_task(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if _now.prefix is not None and not kwargs.get("task_id"):
            kwargs["task_id"] = _now.prefix + str(uuid.uuid4())[len(_now.prefix) :]
        return original(self, name, *args, **kwargs)

    return send_task


def _sync(original: Method) -> Method:
    def sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        emit("sync", "invoke")
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            emit("sync", "fail", error=failure(error))
            raise
        emit("sync", "ok")
        return result

    return sync


def patch(module: ModuleType) -> None:
    """Change ``celery.beat``, or in a beat's process ``celery.app.base``."""
    if module.__name__ == "celery.beat":
        wrap(module, "Service.get_scheduler", _get_scheduler)
        wrap(module, "PersistentScheduler.sync", _sync)
    elif os.environ.get(LABELS):
        wrap(module, "Celery.send_task", _send_task)
