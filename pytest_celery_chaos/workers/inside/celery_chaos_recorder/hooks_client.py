"""What clients ask beside publishing: a result, a remote-control command."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import digest, failure
from .ledger import redact
from .patches import put, wrap
from .record import emit

Method = Callable[..., Any]

#: So many digests of one join are written; how many results there were is in ``count``.
_MOST_DIGESTS = 2_000
#: A node's reply to a command is cut to so many characters.
_LONGEST_REPLY = 2_000


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


def _join(original: Method) -> Method:
    def join(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = [each.id for each in self.results]
        attrs: dict[str, Any] = {"group": getattr(self, "id", None), "count": len(ids)}
        emit("joined", "invoke", ids=ids, **attrs)
        try:
            got = original(self, *args, **kwargs)
        except BaseException as error:
            # What a part raised is raised here: it was read, and so was the group.
            phase = "fail" if type(error).__name__ == "TimeoutError" else "unknown"
            emit("joined", phase, ids=ids, error=failure(error), **attrs)
            raise
        digests = [digest(each) for each in got[:_MOST_DIGESTS]] if isinstance(got, list) else None
        emit("joined", "ok", ids=ids, got=digests, results=len(got) if isinstance(got, list) else None, **attrs)
        return got

    return join


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
        emit("control", "ok", ids=ids, command=command, replies=_replies(result))
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


def _replies(result: Any) -> dict[str, str] | None:
    """What each node replied, as text; None where nobody was asked to."""
    if not isinstance(result, list):
        return None
    nodes = {str(node): reply for each in result if isinstance(each, dict) for node, reply in each.items()}
    return {node: redact(repr(reply)[:_LONGEST_REPLY]) for node, reply in nodes.items()}


def patch(module: ModuleType) -> None:
    """Change ``celery.result`` or ``celery.app.control``."""
    if module.__name__ == "celery.result":
        wrap(module, "AsyncResult.get", _get)
        wrap(module, "ResultSet.join", _join)
        wrap(module, "ResultSet.join_native", _join)
    else:
        wrap(module, "Control.broadcast", _broadcast)
        put(module, "warnings", _Warnings())
