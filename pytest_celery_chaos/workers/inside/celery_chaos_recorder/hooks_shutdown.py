"""How a worker goes: the signal, the soft wait, what it cancels, warm or cold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import failure
from .hooks_pool import report_gone
from .patches import version_of, wrap
from .record import emit, role

Method = Callable[..., Any]

_HANDLERS = frozenset({"worker_Warm", "worker_Cold", "restart_worker_sig_handler"})


def _set_signal(original: Method) -> Method:
    def __setitem__(self: Any, name: Any, handler: Any) -> None:
        original(self, name, _announced(name, handler) if getattr(handler, "__name__", "") in _HANDLERS else handler)

    return __setitem__


def _announced(name: Any, handler: Method) -> Method:
    @functools.wraps(handler)
    def handle(*args: Any) -> Any:
        if role() != "child":  # pool processes inherit the handlers until they reset them
            signal = getattr(name, "name", None) or str(name)
            emit("signal", signal=signal, handler=handler.__name__, holds=False)
        return handler(*args)

    return handle


def _soft_wait(original: Method) -> Method:
    def wait_for_soft_shutdown(self: Any, *args: Any, **kwargs: Any) -> Any:
        emit("soft_wait", "invoke", holds=False)
        result = original(self, *args, **kwargs)
        emit("soft_wait", "ok", holds=False)
        return result

    return wait_for_soft_shutdown


def _cancelled(original: Method) -> Method:
    def cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
        emit("cancelled", holds=False)
        return original(self, *args, **kwargs)

    return cancel


def _shutdown(original: Method) -> Method:
    def _shutdown(self: Any, warm: bool = True, *args: Any, **kwargs: Any) -> Any:
        how = "warm" if warm else "cold"
        emit("shutdown", "invoke", how=how)
        processes = list(getattr(getattr(getattr(self, "pool", None), "_pool", None), "_pool", ()) or ())
        try:
            result = original(self, warm, *args, **kwargs)
        except BaseException as error:
            emit("shutdown", "fail", how=how, error=failure(error))
            raise
        for each in processes:
            if getattr(each, "exitcode", None) is not None:
                report_gone(each)
        emit("shutdown", "ok", how=how)
        return result

    return _shutdown


def patch(module: ModuleType) -> None:
    """Change ``celery.platforms``, ``celery.worker.worker`` or ``celery.worker.consumer.consumer``."""
    celery = version_of("celery")
    if module.__name__ == "celery.platforms":
        wrap(module, "Signals.__setitem__", _set_signal)
    elif module.__name__ == "celery.worker.worker":
        wrap(module, "WorkController._shutdown", _shutdown)
        wrap(module, "WorkController.wait_for_soft_shutdown", _soft_wait, optional=celery < (5, 5))
    elif celery >= (5, 5):
        name = "cancel_active_requests" if celery >= (5, 6) else "cancel_all_unacked_requests"
        wrap(module, f"Consumer.{name}", _cancelled)
