"""Revoked ids kept between a worker's lives: loaded at its start, saved at its exit.

By Celery itself in a file (``--statedb``), or in Redis by the package celery-redis-statedb, which swallows its errors:
they are noted where its client raises them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import failure
from .patches import wrap
from .record import emit

Method = Callable[..., Any]

#: What went wrong in the load or save under way; both happen in the main thread, at its very start and very end.
_errors: list[str] = []


def known() -> list[str]:
    """The ids that this worker holds for revoked, the latest first."""
    state = sys.modules.get("celery.worker.state")
    return [str(one) for one in reversed(list(getattr(state, "revoked", ())))]


def _told(kind: str, store: str) -> Callable[[Method], Method]:
    def make(original: Method) -> Method:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            _errors.clear()
            what: dict[str, Any] = {"store": store, "key": getattr(getattr(self, "redis_db", None), "key_prefix", None)}
            emit(kind, "invoke", **what)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                emit(kind, "fail", error=failure(error), **what)
                raise
            if _errors:
                emit(kind, "fail", error=_errors[0], **what)
            else:
                emit(kind, "ok", ids=known(), **what)
            return result

        return method

    return make


def _get_zrevoked(original: Method) -> Method:
    def get_zrevoked(self: Any) -> Any:
        client, values = self.redis_client, []
        get = client.get

        def noted(*args: Any, **kwargs: Any) -> Any:
            try:
                values.append(get(*args, **kwargs))
            except Exception as error:
                _errors.append(failure(error))
                raise
            return values[-1]

        client.get = noted
        try:
            found = original(self)
        finally:
            vars(client).pop("get", None)
        if found is None and values and values[-1] is not None:
            _errors.append("unreadable")
        return found

    return get_zrevoked


def _update(original: Method) -> Method:
    def update(self: Any, *args: Any, **kwargs: Any) -> Any:
        saved = original(self, *args, **kwargs)
        if not saved:
            _errors.append("not saved: see the worker's log")
        return saved

    return update


def patch(module: ModuleType) -> None:
    """Change ``celery.worker.state`` or ``celery_redis_statedb.state``."""
    if module.__name__ == "celery.worker.state":
        wrap(module, "Persistent.merge", _told("revoked_loaded", "file"))
        wrap(module, "Persistent.save", _told("revoked_saved", "file"))
    else:  # not ours to insist on: what was known at `ready` is seen without it
        wrap(module, "RedisPersistent.merge", _told("revoked_loaded", "redis"), optional=True)
        wrap(module, "RedisPersistent.save", _told("revoked_saved", "redis"), optional=True)
        wrap(module, "RedisStateDB.get_zrevoked", _get_zrevoked, optional=True)
        wrap(module, "RedisStateDB.update", _update, optional=True)
