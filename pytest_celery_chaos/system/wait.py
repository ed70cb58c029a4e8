"""Waiting: the only polling loop of the package, and what a progress line needs to know about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from pytest_celery_chaos.errors import WaitExpired

T = TypeVar("T")

TICK = 0.1
"""Seconds between two calls of the observer."""

_observer: Callable[[str, float], None] | None = None


def observe(callback: Callable[[str, float], None] | None) -> None:
    """Tell *callback* what is awaited and how many seconds are left, while something is; None ends that.

    It is called on the thread that waits, at the start of a wait that does not end at once and every :data:`TICK`.
    """
    global _observer
    _observer = callback


def until(
    probe: Callable[[], T | None],
    *,
    what: str,
    timeout: float,
    last: Callable[[], str] | None = None,
    every: float = 0.005,
) -> T:
    """Call *probe* until it returns something other than None or False, and return that.

    :param what: what is awaited, for the message and the progress line: ``worker a to say ready``.
    :param timeout: seconds. The last probe comes after them, so a starved process still sees what has happened.
    :param last: says what was seen last; called only when the wait has expired.
    :param every: seconds between two probes.
    :raises WaitExpired: when the time is over. What *probe* raises passes through.
    """
    deadline = time.monotonic() + timeout
    told = 0.0
    while True:
        left = deadline - time.monotonic()
        value = probe()
        if value is not None and value is not False:
            return value
        if left <= 0:
            expired(what, timeout, last)
        if time.monotonic() - told >= TICK:
            told = _tell(what, left)
        time.sleep(min(every, left))


def for_event(event: threading.Event, *, what: str, timeout: float, last: Callable[[], str] | None = None) -> None:
    """Wait until *event* is set, without polling. Parameters and errors as for :func:`until`."""
    deadline = time.monotonic() + timeout
    while not event.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            expired(what, timeout, last)
        _tell(what, left)
        event.wait(left if _observer is None else min(left, TICK))


def expired(what: str, timeout: float, last: Callable[[], str] | None = None) -> NoReturn:
    """Raise the :class:`WaitExpired` of a wait of *timeout* seconds, with what was seen last."""
    seen = f"; last seen: {last()}" if last is not None else ""
    raise WaitExpired(f"{what}: nothing after {timeout:g} s{seen}")


def _tell(what: str, left: float) -> float:
    if _observer is not None:
        _observer(what, left)
    return time.monotonic()
