"""Revoked ids as Celery keeps them between a worker's lives, made older: in the client, as it takes Celery to read."""

from __future__ import annotations

import base64
import pickle
import zlib
from typing import Any


def aged(data: str, by: float) -> dict[str, Any]:
    """The revoked ids in *data* (base64 of a compressed pickle of a ``LimitedSet``), revoked *by* seconds earlier.

    :returns: ``data`` again, and how many ids are in it (``count``).
    """
    kept = pickle.loads(zlib.decompress(base64.b64decode(data)))
    stamps: dict[Any, float] = kept.as_dict()
    for item, stamp in stamps.items():
        kept.discard(item)
        kept.add(item, now=stamp - by)
    again = zlib.compress(pickle.dumps(kept, protocol=2))
    return {"data": base64.b64encode(again).decode(), "count": len(stamps)}
