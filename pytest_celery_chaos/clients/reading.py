"""In the client process: results, read as users read them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.result import AsyncResult, GroupResult

#: Seconds beyond its time-out after which a reader counts as blocked.
_PATIENCE = 1.0


class Results:
    """What publishing returned, and how it is read again."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._returned: dict[str, Any] = {}

    def keep(self, result: Any) -> None:
        """Keep what publishing a canvas returned, as users do."""
        self._returned[result.id] = result

    def of(self, group: str | None, ids: list[str], *, returned: bool) -> list[Any]:
        """The results to be read: of a group as one, else of each id.

        :param returned: by the very object that publishing returned, not by one that is made here of the ids.
        """
        if group is None:
            return [self._returned[one] if returned and one in self._returned else self._single(one) for one in ids]
        kept = self._returned.get(group)
        if kept is not None and returned:
            return [kept]
        # In the order that publishing returned. An application has one backend object for each thread: a group that
        # was published in another thread would wait at that thread's.
        order = [each.id for each in kept.results] if kept is not None else ids
        return [GroupResult(group, [self._single(each) for each in order], app=self._app)]

    def _single(self, one: str) -> Any:
        return AsyncResult(one, app=self._app)


def read(make: Callable[[], list[Any]], *, timeout: float, threads: int) -> list[dict[str, Any]]:
    """Read results in so many threads at once, each all that *make* makes for it, one after the other.

    :param timeout: seconds for all.
    :returns: of each thread ``values``, or ``error``: the type of what was raised, or ``blocked``.
    """
    outcomes: list[dict[str, Any]] = [{"error": "blocked"} for _ in range(threads)]
    ends = time.monotonic() + timeout

    def one(number: int) -> None:
        try:
            values = [each.get(timeout=max(0.0, ends - time.monotonic())) for each in make()]
            outcomes[number] = {"values": values}
        except Exception as error:
            outcomes[number] = {"error": type(error).__name__}

    readers = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(max(0.0, ends + _PATIENCE - time.monotonic()))
    return outcomes
