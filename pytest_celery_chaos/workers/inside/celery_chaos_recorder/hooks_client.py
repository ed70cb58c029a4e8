"""What clients ask beside publishing: a result, a remote-control command."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import failure
from .patches import put, wrap
from .record import emit

Method = Callable[..., Any]


def _get(original: Method) -> Method:
    def get(self: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> Any:
        emit("get", "invoke", self.id, timeout=timeout)
        try:
            result = original(self, timeout, *args, **kwargs)
        except BaseException as error:
            state = (getattr(self, "_cache", None) or {}).get("status")
            emit("get", _outcome(state, error), self.id, state=state, error=failure(error))
            raise
        emit("get", "ok", self.id, state=(getattr(self, "_cache", None) or {}).get("status"))
        return result

    return get


def _outcome(state: str | None, error: BaseException) -> str:
    """The phase of a `get` that raised; with a state it is the task's own exception, read and raised."""
    if state is not None:
        return "ok"
    return "fail" if type(error).__name__ == "TimeoutError" else "unknown"


def _broadcast(original: Method) -> Method:
    def broadcast(self: Any, command: str, arguments: Any = None, *args: Any, **kwargs: Any) -> Any:
        given = arguments if isinstance(arguments, dict) else {}
        named = given.get("task_id") or kwargs.get("task_id") or ()
        ids = [named] if isinstance(named, str) else [str(item) for item in named]
        emit("control", "invoke", ids=ids, command=command)
        try:
            result = original(self, command, arguments, *args, **kwargs)
        except BaseException as error:
            emit("control", "fail", ids=ids, command=command, error=failure(error))
            raise
        emit("control", "ok", ids=ids, command=command, replies=len(result) if isinstance(result, list) else None)
        return result

    return broadcast


class _Warnings:
    """The ``warnings`` of one module of Celery: what it warns of is an event, and goes its way."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    def warn(self, message: Any, category: Any = None, stacklevel: int = 1, **kwargs: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category
        emit("warned", category=getattr(kind, "__name__", None), text=str(message))
        warnings.warn(message, category, stacklevel + 1, **kwargs)


def patch(module: ModuleType) -> None:
    """Change ``celery.result`` or ``celery.app.control``."""
    if module.__name__ == "celery.result":
        wrap(module, "AsyncResult.get", _get)
    else:
        wrap(module, "Control.broadcast", _broadcast)
        put(module, "warnings", _Warnings())
