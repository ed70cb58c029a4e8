"""Python's garbage collector, out of the way while a million events are made: it would walk through all of them again
and again, and find nothing, since events hold no cycles (twice the time, measured).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection within; afterwards as it was before."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
