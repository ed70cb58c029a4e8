"""Faults of bytes: what Toxiproxy calls toxics, one class each, by its names and with its meaning.

A stage stands in one direction of one connection. What a removed stage has held goes on: nothing is lost by removing
one, except where losing is its purpose.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, Protocol

from pytest_celery_chaos.network.loop import Loop, Timer


class Way(Protocol):
    """What a stage knows of the direction that it stands in."""

    loop: Loop

    def relieved(self) -> None:
        """Less is held than before."""

    def end(self, *, reset: bool) -> None:
        """End the whole connection: with FIN after what is on its way, or with RST."""


class Stage:
    """Lets everything through. Others change what they must.

    :ivar held: bytes that it keeps for later.
    """

    held = 0

    def __init__(self, way: Way, attributes: Mapping[str, Any]) -> None:
        self.way = way
        self.feed_next: Callable[[bytes], None] = lambda _: None
        self.close_next: Callable[[], None] = lambda: None
        self.set_up(**attributes)

    def set_up(self, *_: Any, **__: Any) -> None:
        """Take the toxic's attributes."""

    def feed(self, data: bytes) -> None:
        self.feed_next(data)

    def close(self) -> None:
        """The source has said its last."""
        self.close_next()

    def remove(self) -> None:
        """Let go of everything that is held."""


class _Queued(Stage):
    """Everything in its order, each when it is due; None is the end."""

    def set_up(self, *_: Any, **__: Any) -> None:
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._timer: Timer | None = None
        self._last = 0.0

    def put(self, due: float, data: bytes | None) -> None:
        self._last = max(self._last, due)
        self._queue.append((self._last, data))
        self.held += len(data or b"")
        if self._timer is None:
            self._wait()

    def close(self) -> None:
        self.put(self._last, None)

    def remove(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        while self._queue:
            self._pass_on()

    def _wait(self) -> None:
        self._timer = None
        if self._queue and self._queue[0][0] < float("inf"):
            self._timer = self.way.loop.later(self._queue[0][0] - monotonic(), self._due)

    def _due(self) -> None:
        now = monotonic()
        while self._queue and self._queue[0][0] <= now:
            self._pass_on()
        self._wait()
        self.way.relieved()

    def _pass_on(self) -> None:
        data = self._queue.popleft()[1]
        if data is None:
            self.close_next()
        else:
            self.held -= len(data)
            self.feed_next(data)


class Latency(_Queued):
    """Everything *latency* ms later, ± *jitter* ms."""

    def set_up(self, latency: float = 0, jitter: float = 0) -> None:
        super().set_up()
        self._latency, self._jitter = latency / 1000, jitter / 1000

    def feed(self, data: bytes) -> None:
        jitter = random.uniform(-self._jitter, self._jitter) if self._jitter else 0.0
        self.put(monotonic() + self._latency + jitter, data)


class Bandwidth(_Queued):
    """At most *rate* KB/s; 0: nothing."""

    def set_up(self, rate: float = 0) -> None:
        super().set_up()
        self._rate = rate * 1000

    def feed(self, data: bytes) -> None:
        step = max(1, int(self._rate / 10))
        for begin in range(0, len(data), step):
            piece = data[begin : begin + step]
            due = max(self._last, monotonic()) + len(piece) / self._rate if self._rate > 0 else float("inf")
            self.put(due, piece)


class Slicer(_Queued):
    """In pieces of *average_size* ± *size_variation* bytes, *delay* µs apart."""

    def set_up(self, average_size: int = 1, size_variation: int = 0, delay: float = 0) -> None:
        super().set_up()
        self._size, self._variation, self._delay = average_size, min(size_variation, average_size - 1), delay / 1e6

    def feed(self, data: bytes) -> None:
        begin = 0
        while begin < len(data):
            size = self._size + random.randint(-self._variation, self._variation)
            self.put(max(self._last + self._delay, monotonic()), data[begin : begin + size])
            begin += size


class SlowClose(Stage):
    """The end *delay* ms later."""

    def set_up(self, delay: float = 0) -> None:
        self._delay = delay / 1000
        self._timer: Timer | None = None

    def close(self) -> None:
        self._timer = self.way.loop.later(self._delay, self.close_next)

    def remove(self) -> None:
        if self._timer is not None and self._timer.do is not None:
            self._timer.cancel()
            self.close_next()


class Timeout(Stage):
    """Nothing gets through; after *timeout* ms of silence the connection ends (0: when this is removed)."""

    def set_up(self, timeout: float = 0) -> None:
        self._seconds = timeout / 1000
        self._timer: Timer | None = None
        self._again()

    def _again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._seconds:
            self._timer = self.way.loop.later(self._seconds, self.remove)

    def feed(self, data: bytes) -> None:
        self._again()

    def remove(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.way.end(reset=False)


class ResetPeer(Stage):
    """The first bytes, or the end, are lost, and *timeout* ms later the connection is reset."""

    def set_up(self, timeout: float = 0) -> None:
        self._seconds = timeout / 1000
        self._timer: Timer | None = None

    def feed(self, data: bytes) -> None:
        self.close()

    def close(self) -> None:
        if self._timer is None:
            self._timer = self.way.loop.later(self._seconds, lambda: self.way.end(reset=True))

    def remove(self) -> None:
        if self._timer is not None and self._timer.do is not None:
            self._timer.cancel()
            self.way.end(reset=True)


class LimitData(Stage):
    """After *bytes* bytes the connection ends."""

    def set_up(self, bytes: int = 0) -> None:
        self._left = bytes

    def feed(self, data: bytes) -> None:
        if self._left > 0:
            self.feed_next(data[: self._left])
        self._left -= len(data)
        if self._left <= 0:
            self.way.end(reset=False)


#: By Toxiproxy's names, with its attributes.
TOXICS: Final[Mapping[str, type[Stage]]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slicer": Slicer,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "limit_data": LimitData,
}
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "latency": frozenset({"latency", "jitter"}),
    "bandwidth": frozenset({"rate"}),
    "slicer": frozenset({"average_size", "size_variation", "delay"}),
    "slow_close": frozenset({"delay"}),
    "timeout": frozenset({"timeout"}),
    "reset_peer": frozenset({"timeout"}),
    "limit_data": frozenset({"bytes"}),
}


class Toxic:
    """One toxic of a link, as it was asked for; makes a stage for each connection that it falls on."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.name: str = record["name"]
        self.stream: str = record.get("stream", "downstream")
        self.toxicity = float(record.get("toxicity", 1.0))
        self._kind, self._attributes = TOXICS[record["type"]], record.get("attributes") or {}

    def stage(self, way: Way) -> Stage | None:
        """None: this connection is spared (toxicity)."""
        if self.toxicity < 1.0 and random.random() >= self.toxicity:
            return None
        return self._kind(way, self._attributes)
