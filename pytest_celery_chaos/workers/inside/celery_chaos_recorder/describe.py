"""What a message says of its task. Never raises: a message may be of any producer."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast

#: A number, truth value or None that is written so short stands for itself.
_SHORT = 12
#: A longer text is not looked at as a whole.
_LONG = 4096


def message_task(message: Any) -> tuple[str | None, str | None]:
    """Id and name of the task that a kombu message carries; the name is unknown in Celery's first protocol."""
    headers = getattr(message, "headers", None) or {}
    properties = getattr(message, "properties", None) or {}
    try:
        return headers.get("id") or properties.get("correlation_id"), headers.get("task")
    except AttributeError:
        return None, None


def message_attrs(message: Any) -> dict[str, Any]:
    """Tag, redelivered flag and retries of a kombu message."""
    headers = getattr(message, "headers", None) or {}
    delivery = getattr(message, "delivery_info", None) or {}
    return {
        "tag": getattr(message, "delivery_tag", None),
        "redelivered": bool(headers.get("redelivered") or delivery.get("redelivered")),
        "retries": headers.get("retries"),
    }


def is_redis(channel: Any) -> bool:
    """Whether a kombu channel is that of the Redis transport, or of one that is made from it."""
    return _is_redis(cast("Hashable", type(channel)))


@lru_cache(maxsize=64)
def _is_redis(kind: Any) -> bool:
    return any(cls.__module__ == "kombu.transport.redis" and cls.__name__ == "Channel" for cls in kind.__mro__)


def failure(error: BaseException) -> str:
    """An exception as an attribute: its type and, short, what it says."""
    try:
        return f"{type(error).__name__}: {error}"[:150]
    except Exception:
        return type(error).__name__


def digest(value: Any) -> str:
    """A result as a short text that is the same in every process, also after the result has been JSON.

    A short number stands for itself: results that say which part they are of can be read in the history.
    """
    if isinstance(value, str) and len(value) > _LONG:  # its ends and its length will do, and cost nothing
        value = [len(value), value[: _LONG // 2], value[-_LONG // 2 :]]
    try:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, default=str)
    except Exception:
        text = f"{type(value).__name__}?"
    if len(text) <= _SHORT and (value is None or isinstance(value, (int, float))):
        return text
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=4).hexdigest()


def membership(request: Any) -> dict[str, Any]:
    """Of which group or chord a request is a part, and the how manieth; nothing where it is of none."""
    group = getattr(request, "group", None)
    if not group:
        return {}
    return {"group": group, "index": getattr(request, "group_index", None)}
