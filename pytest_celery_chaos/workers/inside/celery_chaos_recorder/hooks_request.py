"""What the main process decides about a request: settled, revoked, failed or retried on behalf of a lost child."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import local
from types import ModuleType
from typing import Any

from .patches import version_of, wrap
from .record import emit

Method = Callable[..., Any]


class _Now(local):
    #: The request for which this thread of the main process decides.
    deciding: Any = None


_now = _Now()
#: Requests that have failed: after a hard time limit Celery marks the failure twice, of one execution.
_failed: weakref.WeakSet[Any] = weakref.WeakSet()


def _task_ready(original: Method) -> Method:
    def task_ready(request: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(request, *args, **kwargs)
        emit("settled", None, request.id, name=getattr(request, "name", None))
        return result

    return task_ready


def _on_accepted(original: Method) -> Method:
    def on_accepted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        emit("accepted", None, self.id, name=self.name)
        return result

    return on_accepted


def _announce_revoked(original: Method) -> Method:
    def _announce_revoked(self: Any, reason: str, *args: Any, **kwargs: Any) -> Any:
        emit("revoked", None, self.id, name=self.name, reason=reason)
        return original(self, reason, *args, **kwargs)

    return _announce_revoked


def _deciding(original: Method) -> Method:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        before, _now.deciding = _now.deciding, self
        try:
            return original(self, *args, **kwargs)
        finally:
            _now.deciding = before

    return method


def _mark_as_failure(original: Method) -> Method:
    def mark_as_failure(self: Any, task_id: str, exc: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, task_id, exc, *args, **kwargs)
        request = _now.deciding
        if request is not None and request.id == task_id and request not in _failed:
            _failed.add(request)
            emit("failed", None, task_id, error=type(exc).__name__)
        return result

    return mark_as_failure


def _announce_cancelled(original: Method) -> Method:
    def _announce_cancelled(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if kwargs.get("emit_retry", args[0] if args else True):
            emit("retried", None, self.id, name=self.name, error="Retry", cancelled=True)
        return result

    return _announce_cancelled


def _retry_worker_lost(original: Method) -> Method:
    def _retry_worker_lost(self: Any, exc: Any, *args: Any, **kwargs: Any) -> Any:
        retried = original(self, exc, *args, **kwargs)
        if retried:
            emit("retried", None, self.id, name=self.name, error=type(exc).__name__)
        return retried

    return _retry_worker_lost


def patch(module: ModuleType) -> None:
    """Change ``celery.worker.state``, ``celery.worker.request`` or ``celery.backends.base``."""
    if module.__name__ == "celery.worker.state":
        wrap(module, "task_ready", _task_ready)
    elif module.__name__ == "celery.backends.base":
        wrap(module, "Backend.mark_as_failure", _mark_as_failure)
    else:
        wrap(module, "Request.on_accepted", _on_accepted)
        wrap(module, "Request._announce_revoked", _announce_revoked)
        wrap(module, "Request.on_failure", _deciding)
        wrap(module, "Request.on_timeout", _deciding)
        wrap(module, "Request._announce_cancelled", _announce_cancelled)
        wrap(module, "Request._retry_worker_lost", _retry_worker_lost, optional=version_of("celery") < (5, 7))
