"""Chords: what each part of a header hands in, and in which order the body is given it."""

from __future__ import annotations

from collections.abc import Callable
from threading import local
from types import ModuleType
from typing import Any

from .describe import digest, failure, membership
from .patches import wrap
from .record import emit

Method = Callable[..., Any]

#: So many digests of one chord are written; how many there are is in ``count``.
MOST_DIGESTS = 2_000


class _Now(local):
    #: The part whose return this thread works on: its group and the ids that the body's tasks bear.
    group: str | None = None
    body: frozenset[str] = frozenset()


_now = _Now()


def _on_chord_part_return(original: Method) -> Method:
    def on_chord_part_return(self: Any, request: Any, state: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(request, "group", None):
            return original(self, request, state, result, *args, **kwargs)
        attrs = {**membership(request), "state": state, "digest": digest(result)}
        emit("chord_part", "invoke", request.id, **attrs)
        before = _now.group, _now.body
        _now.group, _now.body = request.group, frozenset(_ids(request.chord))
        try:
            returned = original(self, request, state, result, *args, **kwargs)
        except BaseException as error:
            emit("chord_part", "fail", request.id, error=failure(error), **attrs)
            raise
        finally:
            _now.group, _now.body = before
        emit("chord_part", "ok", request.id, **attrs)
        return returned

    return on_chord_part_return


def _ids(signature: Any) -> set[str]:
    """The ids of the tasks that are published when *signature*, a chord's body, is applied."""
    options = signature.get("options") or {}
    found = {options["task_id"]} if options.get("task_id") else set()
    kwargs = signature.get("kwargs") or {}
    kind = signature.get("subtask_type")
    if kind == "chain":
        found |= _ids(kwargs["tasks"][0])
    elif kind in ("group", "chord"):
        for each in kwargs["tasks" if kind == "group" else "header"]:
            found |= _ids(each)
    return found


def dispatched(task: str | None, message: Any) -> None:
    """A task is about to be published: write down whether a chord's part does it, for the body, and what that gets."""
    if _now.group is None or task not in _now.body:
        return
    try:
        body = message.body
        args = body.get("args") if isinstance(body, dict) else body[0]
        given = args[0] if args and isinstance(args[0], (list, tuple)) else None
    except Exception as error:
        emit("chord", None, task, group=_now.group, undescribed=failure(error))
        return
    if given is None:  # immutable: it is given no results
        emit("chord", None, task, group=_now.group)
    else:
        digests = [digest(each) for each in given[:MOST_DIGESTS]]
        emit("chord", None, task, group=_now.group, digests=digests, count=len(given))


def patch(module: ModuleType) -> None:
    """Change ``celery.backends.redis``."""
    wrap(module, "RedisBackend.on_chord_part_return", _on_chord_part_return)
