"""Lines of level CRITICAL, whatever they say: a worker that writes one has met what it cannot handle."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .patches import wrap
from .record import emit

Method = Callable[..., Any]
_LONGEST = 300


def _handle(original: Method) -> Method:
    def handle(self: Any, record: logging.LogRecord) -> Any:
        if record.levelno >= logging.CRITICAL:
            emit("critical", logger=record.name, line=_text(record))
        return original(self, record)

    return handle


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()[:_LONGEST]
    except Exception:  # a message whose arguments do not fit is the application's affair
        return str(record.msg)[:_LONGEST]


def patch(module: ModuleType) -> None:
    """Change ``logging``, when ``celery.app.log`` is about to set it up."""
    wrap(logging, "Logger.handle", _handle)
