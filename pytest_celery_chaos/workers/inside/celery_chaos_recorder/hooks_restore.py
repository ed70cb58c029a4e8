"""Messages that go back to their queue: by the sweep for the visibility timeout, at shutdown, by a reject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from types import ModuleType
from typing import Any

from .describe import failure
from .patches import wrap
from .record import emit

Method = Callable[..., Any]


class _Now(local):
    """What this thread is restoring."""

    reasons: tuple[str, ...] = ()
    restore: _Restore | None = None
    restored = 0


class _Restore:
    """One call of ``restore_by_tag``."""

    def __init__(self, tag: str, reason: str) -> None:
        self.attrs: dict[str, Any] = {"tag": tag, "reason": reason}
        self.task: str | None = None
        self.name: str | None = None
        self.begun = False
        self.pushed: bool | None = None

    def begin(self, payload: Any = None) -> None:
        """Written once, when the payload (and so the task) is known and nothing has been changed in Redis."""
        if isinstance(payload, dict):
            headers, properties = payload.get("headers") or {}, payload.get("properties") or {}
            self.task, self.name = headers.get("id") or properties.get("correlation_id"), headers.get("task")
        if not self.begun:
            self.begun = True
            emit("restore", "invoke", self.task, name=self.name, **self.attrs)

    def end(self, phase: str, error: str | None = None) -> None:
        self.begin()
        emit("restore", phase, self.task, name=self.name, error=error, **self.attrs)


_now = _Now()


@contextmanager
def _because(reason: str) -> Iterator[None]:
    before = _now.reasons
    _now.reasons = (*before, reason)
    try:
        yield
    finally:
        _now.reasons = before


def _reason(reason: str) -> Callable[[Method], Method]:
    def make(original: Method) -> Method:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _because(reason):
                return original(self, *args, **kwargs)

        return method

    return make


def _restore_by_tag(original: Method) -> Method:
    def restore_by_tag(self: Any, tag: str, *args: Any, **kwargs: Any) -> Any:
        tag_text = tag.decode(errors="replace") if isinstance(tag, bytes) else tag
        restore = _Restore(tag_text, _now.reasons[-1] if _now.reasons else "other")
        before, _now.restore = _now.restore, restore
        try:
            result = original(self, tag, *args, **kwargs)
        except BaseException as error:
            restore.end("unknown", failure(error))
            raise
        finally:
            _now.restore = before
        if restore.pushed:
            _now.restored += 1
            restore.end("ok")
        else:
            restore.end("fail", "gone already" if restore.pushed is None else "dropped: no queue took it")
        return result

    return restore_by_tag


def _do_restore_message(original: Method) -> Method:
    def _do_restore_message(self: Any, payload: Any, exchange: str, routing_key: str, pipe: Any, *rest: Any) -> Any:
        restore = _now.restore
        if restore is None:
            return original(self, payload, exchange, routing_key, pipe, *rest)
        restore.begin(payload)
        commands = getattr(pipe, "command_stack", None)
        before = len(commands) if commands is not None else -1
        result = original(self, payload, exchange, routing_key, pipe, *rest)
        restore.pushed = commands is None or len(pipe.command_stack) > before
        return result

    return _do_restore_message


def _mutex(original: Method) -> Method:
    @contextmanager
    def Mutex(*args: Any, **kwargs: Any) -> Iterator[None]:
        with original(*args, **kwargs):
            _now.restored = 0
            emit("sweep", "invoke")
            try:
                yield
            except BaseException as error:
                emit("sweep", "unknown", error=failure(error), restored=_now.restored)
                raise
            emit("sweep", "ok", restored=_now.restored)

    return Mutex


def patch(module: ModuleType) -> None:
    """Change ``kombu.transport.redis`` or ``kombu.transport.virtual.base``."""
    if module.__name__ == "kombu.transport.redis":
        wrap(module, "Mutex", _mutex)
        wrap(module, "QoS.restore_visible", _reason("sweep"))
        wrap(module, "QoS.reject", _reason("reject"))
        wrap(module, "QoS.restore_by_tag", _restore_by_tag)
        wrap(module, "Channel._do_restore_message", _do_restore_message)
        return
    wrap(module, "QoS.restore_unacked_once", _reason("shutdown"))
