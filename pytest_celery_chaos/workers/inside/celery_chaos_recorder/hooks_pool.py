"""The processes of a prefork pool: up and down."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .patches import wrap
from .record import emit

Method = Callable[..., Any]

#: Processes that were reported as gone: the pool may come upon one twice.
_gone: weakref.WeakSet[Any] = weakref.WeakSet()


def _process_initializer(original: Method) -> Method:
    def process_initializer(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        emit("child_up")
        return result

    return process_initializer


def _process_flush_queues(original: Method) -> Method:
    # Called for each process that the pool finds gone, when its exit code is known and not yet acted upon.
    def process_flush_queues(self: Any, proc: Any) -> Any:
        report_gone(proc)
        return original(self, proc)

    return process_flush_queues


def report_gone(proc: Any) -> None:
    """Write that a process of the pool has ended, once."""
    if proc not in _gone:
        _gone.add(proc)
        emit("child_down", child=proc.pid, exitcode=proc.exitcode)


def patch(module: ModuleType) -> None:
    """Change ``celery.concurrency.prefork`` or ``celery.concurrency.asynpool``."""
    if module.__name__ == "celery.concurrency.prefork":
        wrap(module, "process_initializer", _process_initializer)
    else:
        wrap(module, "AsynPool.process_flush_queues", _process_flush_queues)
