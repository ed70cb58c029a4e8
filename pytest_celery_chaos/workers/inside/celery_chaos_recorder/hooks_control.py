"""Revokes: heard by remote control, or taken over between neighbours when a worker starts (mingle, hello)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import failure
from .patches import wrap
from .record import emit

Method = Callable[..., Any]

_METHODS = frozenset({"revoke", "revoke_by_stamped_headers", "terminate"})


def _ids(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _around(ids: list[str], attrs: dict[str, Any], call: Callable[[], Any]) -> Any:
    emit("revoke", "invoke", ids=ids, **attrs)
    try:
        result = call()
    except BaseException as error:
        emit("revoke", "fail", ids=ids, error=failure(error), **attrs)
        raise
    emit("revoke", "ok", ids=ids, **attrs)
    return result


def _handle(original: Method) -> Method:
    def handle(self: Any, method: str, arguments: Any = None) -> Any:
        given = arguments or {}
        # A worker that starts tells its neighbours what it knows, too; one of the same name is taken for an echo.
        if method == "hello" and given.get("revoked") and given.get("from_node") != self.hostname:
            return _around(_ids(given["revoked"]), {"method": "hello"}, lambda: original(self, method, arguments))
        if method not in _METHODS:
            return original(self, method, arguments)
        attrs: dict[str, Any] = {"method": method, "terminate": bool(given.get("terminate") or method == "terminate")}
        if given.get("headers"):
            attrs["headers"] = str(given["headers"])
        return _around(_ids(given.get("task_id")), attrs, lambda: original(self, method, arguments))

    return handle


def _on_revoked_received(original: Method) -> Method:
    def on_revoked_received(self: Any, c: Any, revoked: Any) -> Any:
        if not revoked:
            return original(self, c, revoked)
        return _around(_ids(revoked), {"method": "mingle"}, lambda: original(self, c, revoked))

    return on_revoked_received


def patch(module: ModuleType) -> None:
    """Change ``kombu.pidbox`` or ``celery.worker.consumer.mingle``."""
    if module.__name__ == "kombu.pidbox":
        wrap(module, "Node.handle", _handle)
    else:
        wrap(module, "Mingle.on_revoked_received", _on_revoked_received)
