"""Methods of Celery and kombu replaced by ours, each remembered so that it can be put back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .record import emit

Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]

_ABSENT = object()
_done: list[tuple[Any, str, Any]] = []


def wrap(module: ModuleType, path: str, make: Wrapper, *, optional: bool = False) -> None:
    """Put ``make(original)`` in the place of a function or method.

    :param path: where it is in *module*: ``QoS.append``.
    :param optional: it does not exist in every version that we support; else its absence is an event.
    """
    hook = f"{module.__name__}:{path}"
    *parents, name = path.split(".")
    owner: Any = module
    try:
        for parent in parents:
            owner = getattr(owner, parent)
        original = getattr(owner, name)
    except AttributeError:
        if not optional:
            emit("hook_missing", hook=hook)
        return
    try:
        replacement = functools.wraps(original)(make(original))
        put(owner, name, replacement)
    except Exception as error:
        emit("hook_failed", hook=hook, error=repr(error))


def put(owner: Any, name: str, value: Any) -> None:
    """Set an attribute, remembering what was there."""
    _done.append((owner, name, owner.__dict__.get(name, _ABSENT)))
    setattr(owner, name, value)


def undo() -> None:
    """Put everything back, the last first."""
    while _done:
        owner, name, original = _done.pop()
        if original is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def version_of(module: str) -> tuple[int, int]:
    """Major and minor version of an imported package, (0, 0) if unknown."""
    text = str(getattr(sys.modules.get(module), "__version__", "0.0"))
    digits = [part for part in text.split(".")[:2] if part.isdigit()]
    return (int(digits[0]), int(digits[1])) if len(digits) == 2 else (0, 0)
