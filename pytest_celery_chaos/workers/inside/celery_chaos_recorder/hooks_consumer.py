"""The worker's consumer: ready, and its connection lost and back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import in_force
from .describe import failure
from .patches import wrap
from .record import emit

Method = Callable[..., Any]

_ready = False


def _on_ready(original: Method) -> Method:
    def on_ready(self: Any, *args: Any, **kwargs: Any) -> Any:
        global _ready
        result = original(self, *args, **kwargs)
        if not _ready:
            _ready = True
            try:
                report = in_force.report(self)
            except Exception as error:
                report = {"unreported": failure(error)}
            emit("ready", **report)
        return result

    return on_ready


def _connect(original: Method) -> Method:
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = original(self, *args, **kwargs)
        if self.restart_count > 0:
            emit("connection_back")
        return connection

    return connect


def _ensure_connected(original: Method) -> Method:
    """Hear of each attempt to connect that has failed; Celery itself only logs them."""

    def ensure_connected(self: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        ensure = conn.ensure_connection

        def ensure_connection(errback: Method | None = None, *rest: Any, **more: Any) -> Any:
            def told(exc: BaseException, *details: Any) -> Any:
                emit("connection_lost", error=failure(exc), before=True)
                return errback(exc, *details) if errback is not None else None

            return ensure(told, *rest, **more)

        conn.ensure_connection = ensure_connection
        try:
            return original(self, conn, *args, **kwargs)
        finally:
            vars(conn).pop("ensure_connection", None)

    return ensure_connected


def _lost(before: bool) -> Callable[[Method], Method]:
    def make(original: Method) -> Method:
        def on_connection_error(self: Any, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
            emit("connection_lost", error=failure(exc), before=before)
            return original(self, exc, *args, **kwargs)

        return on_connection_error

    return make


def patch(module: ModuleType) -> None:
    """Change ``celery.worker.consumer.consumer``."""
    wrap(module, "Consumer.on_ready", _on_ready)
    wrap(module, "Consumer.connect", _connect)
    wrap(module, "Consumer.ensure_connected", _ensure_connected)
    wrap(module, "Consumer.on_connection_error_before_connected", _lost(True))
    wrap(module, "Consumer.on_connection_error_after_connected", _lost(False))
