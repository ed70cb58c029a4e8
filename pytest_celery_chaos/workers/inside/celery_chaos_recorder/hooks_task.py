"""Where a task runs: its body, its result, and how its trace ended."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import digest, failure, membership
from .patches import wrap
from .record import emit

Method = Callable[..., Any]

#: Requests whose body is running, by id(): the `__call__` of a task's class may reach that of another task's class.
_running: set[int] = set()
_MARK = "__celery_chaos__"
#: The position of ``eager`` in build_tracer's arguments behind name and task.
_EAGER = 4


def _build_tracer(original: Method) -> Method:
    def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Method:
        if kwargs.get("eager") or (len(args) > _EAGER and args[_EAGER]):
            return original(name, task, *args, **kwargs)  # type: ignore[no-any-return]
        _give_call(type(task))
        trace = original(name, task, *args, **kwargs)

        def trace_task(uuid: str, *rest: Any, **more: Any) -> Any:
            ended = trace(uuid, *rest, **more)
            try:
                _terminal(uuid, ended)
            except Exception as error:
                emit("hook_failed", hook="trace", error=failure(error))
            return ended

        return trace_task

    return build_tracer


def _give_call(cls: Any) -> None:
    """Give the task's own class a ``__call__``: the tracer then calls the task, and so ours, not ``run``."""
    own = cls.__dict__.get("__call__")
    if getattr(own, _MARK, False):
        return

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = own.__get__(self) if own is not None else super(cls, self).__call__
        request = self.request_stack.top
        # Not from a message: called directly, or from a body, where the second request on the stack copies the first.
        if request is None or request.called_directly or request.is_eager or len(self.request_stack) > 1:
            return inner(*args, **kwargs)
        this = id(request)
        if this in _running:
            return inner(*args, **kwargs)
        _running.add(this)
        try:
            emit("started", None, request.id, name=self.name, **_request_attrs(request))
            try:
                result = inner(*args, **kwargs)
            except BaseException as error:
                emit("raised", None, request.id, name=self.name, error=type(error).__name__)
                raise
            emit("returned", None, request.id, name=self.name)
            return result
        finally:
            _running.discard(this)

    setattr(__call__, _MARK, True)
    cls.__call__ = __call__


def _request_attrs(request: Any) -> dict[str, Any]:
    properties, delivery = request.properties or {}, request.delivery_info or {}
    return {
        "tag": properties.get("delivery_tag") or delivery.get("delivery_tag"),
        "redelivered": bool(delivery.get("redelivered") or getattr(request, "redelivered", False)),
        "retries": request.retries,
    }


def _terminal(task: str, ended: Any) -> None:
    """Write how the trace ended. Ignore and Reject end in no state of their own: their message tells."""
    result, info, runtime = ended[0], ended[1], ended[2]
    if info is None:
        if type(result).__name__ == "ExceptionInfo":  # Celery itself failed around the body
            emit("failed", None, task, error=failure(result.exception), internal=True)
        else:
            more: dict[str, Any] = {} if runtime is not None else {"deduplicated": True}
            emit("succeeded", None, task, **more)
    elif info.state == "FAILURE":
        emit("failed", None, task, error=type(info.retval).__name__)
    elif info.state == "RETRY":
        cause = getattr(info.retval, "exc", None)
        when = getattr(info.retval, "when", None)
        error = type(cause if cause is not None else info.retval).__name__
        emit("retried", None, task, error=error, countdown=when if isinstance(when, (int, float)) else None)


def _store_result(original: Method) -> Method:
    def store_result(self: Any, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        # STARTED is no result: the point `store` is the write of an outcome.
        holds = state != "STARTED"
        emit("store", "invoke", task_id, holds=holds, state=state)
        part = membership(kwargs.get("request")) if holds else {}
        if part:  # of a group: which part it is, and what its result comes to
            part["digest"] = digest(result)
        try:
            stored = original(self, task_id, result, state, *args, **kwargs)
        except BaseException as error:
            names = {cls.__name__ for cls in type(error).mro()}
            phase = "fail" if names & {"EncodeError", "TypeError", "ValueError"} else "unknown"
            emit("store", phase, task_id, holds=holds, state=state, error=failure(error))
            raise
        emit("store", "ok", task_id, holds=holds, state=state, **part)
        return stored

    return store_result


def patch(module: ModuleType) -> None:
    """Change ``celery.app.trace`` or ``celery.backends.base``."""
    if module.__name__ == "celery.app.trace":
        wrap(module, "build_tracer", _build_tracer)
    else:
        wrap(module, "Backend.store_result", _store_result)
