"""Memory pressure on a server by keys of the harness's own, marked as such and kept out of every application's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pytest_celery_chaos.brokers.roles import HARNESS, STATEDB_DB

#: The database of the fillers: no application's, so that no scan of its keys meets one.
FILLER_DB: Final = STATEDB_DB - 1
FILLER: Final = f"{HARNESS}filler:"
#: Bytes of one filler. With few large keys beside them, those of an application are soon the next to be evicted.
SIZE: Final = 16 * 1024
#: Bytes that the limit is away where a server has none of its own.
ROOM: Final = 4 * 1024 * 1024
_BATCH: Final = 16
#: How often each filler is read after each batch, under LFU.
_TOUCHES: Final = 16


class Pressure:
    """Fills a server and takes all of it back.

    :param client: the harness's connection to the filler's database.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._limit = self._asked("maxmemory")
        self._written = 0

    @property
    def policy(self) -> str:
        """The ``maxmemory-policy`` in force."""
        return str(self._asked("maxmemory-policy"))

    @property
    def used(self) -> int:
        """``used_memory``, in bytes."""
        return int(self._client.info("memory")["used_memory"])

    @property
    def evicted(self) -> int:
        """How many keys the server has ever evicted (``evicted_keys``)."""
        return int(self._client.info("stats")["evicted_keys"])

    def limit(self, size: int) -> None:
        """Set ``maxmemory`` to *size* bytes."""
        self._client.config_set("maxmemory", max(1, size))

    def bring_near(self) -> None:
        """Give a server without a limit one that is a few megabytes away."""
        if int(self._limit) == 0:
            self.limit(self.used + ROOM)

    def fill(self) -> Iterator[bool]:
        """Write fillers without end; each time whether the server has refused one (OOM)."""
        from redis import OutOfMemoryError

        while True:
            pipe = self._client.pipeline(transaction=False)
            for number in range(self._written, self._written + _BATCH):
                pipe.set(f"{FILLER}{number}", b"\0" * SIZE)
            if "lfu" in self.policy and self._written:
                # Under LFU new keys go first: these must be asked for more often than those that they are to displace.
                names = [f"{FILLER}{number}" for number in range(self._written)]
                for _ in range(_TOUCHES):
                    pipe.touch(*names)
            self._written += _BATCH
            answers = pipe.execute(raise_on_error=False)
            errors = [answer for answer in answers if isinstance(answer, Exception)]
            if strange := [error for error in errors if not isinstance(error, OutOfMemoryError)]:
                raise strange[0]
            yield bool(errors)

    def refuses(self) -> bool:
        """Whether a write is answered OOM now."""
        from redis import OutOfMemoryError

        try:
            self._client.set(f"{FILLER}probe", b"")
        except OutOfMemoryError:
            return True
        self._client.delete(f"{FILLER}probe")
        return False

    def relieve(self) -> None:
        """Take every filler back, and then the limit: never a moment at which the server would evict more."""
        names = [f"{FILLER}{number}" for number in range(self._written)]
        for begin in range(0, len(names), 1000):
            self._client.delete(*names[begin : begin + 1000])
        self._client.config_set("maxmemory", self._limit)

    def _asked(self, option: str) -> Any:
        return self._client.config_get(option)[option]
