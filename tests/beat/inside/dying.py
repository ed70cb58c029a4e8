"""Schedulers with a bug in them."""

from __future__ import annotations

import os
from typing import Any

from celery.beat import PersistentScheduler


class Dies(PersistentScheduler):  # type: ignore[misc]
    """Ends its process at the second tick, as a lack of memory would."""

    ticks = 0

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        self.ticks += 1
        if self.ticks > 1:
            os._exit(3)
        return min(0.1, super().tick(*args, **kwargs))


class Breaks(PersistentScheduler):  # type: ignore[misc]
    """Raises at the second tick; beat writes a line of level CRITICAL and ends."""

    ticks = 0

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        self.ticks += 1
        if self.ticks > 1:
            raise RuntimeError("broken")
        return min(0.1, super().tick(*args, **kwargs))


class Forgets(PersistentScheduler):  # type: ignore[misc]
    """Takes no entries from the settings."""

    def merge_inplace(self, b: Any) -> None:
        super().merge_inplace({})
