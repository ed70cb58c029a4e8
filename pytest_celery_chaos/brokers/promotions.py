"""What Sentinels say while a run is under way, heard as they say it: above all, that there is another primary."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.replicated import Replicated, replication
from pytest_celery_chaos.errors import NoAnswer, WaitExpired
from pytest_celery_chaos.system import wait

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer

#: Seconds until one that is away is tried again, and between two looks at whether the run is over.
_AGAIN: Final = 0.1
#: After these they may agree on another primary: each says the first; the second, when the one is gone that did not.
_OF_A_CHANGE: Final = frozenset({"+switch-master", "+sdown"})
#: Seconds that a server has to become the replica that a Sentinel makes of it.
_OBEYS: Final = 5.0
#: What one says when it makes a replica of somebody who was the primary: `slave HOST:PORT HOST PORT @ …`.
_DEMOTES: Final = "+convert-to-slave"

Emit = Callable[..., Any]


class Promotions:
    """Listens to every Sentinel of a broker, and writes down what they say (PSUBSCRIBE *).

    :param emit: writes an event: its kind, ``source`` and attributes.
    """

    def __init__(self, broker: Replicated, emit: Emit) -> None:
        self._broker, self._emit = broker, emit
        self._over = threading.Event()
        self._changing = threading.Lock()
        self._primary = broker.primary
        self._epoch = broker.learn()
        self._demoted_in: dict[str, int] = {}  # by name, in which epoch: each Sentinel says it
        self._threads = [
            threading.Thread(target=self._listen, args=(sentinel,), name=f"chaos-{name}", daemon=True)
            for name, sentinel in broker.sentinels.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening; nothing is written after it."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _listen(self, sentinel: RedisServer) -> None:
        while not self._over.is_set():
            with suppress(NoAnswer), answering():
                self._hear(sentinel)
            self._over.wait(_AGAIN)

    def _hear(self, sentinel: RedisServer) -> None:
        """As long as it is there, write down what it says."""
        client: Any = sentinel.client(0, socket_timeout=None, decode_responses=True)
        with client, client.pubsub() as said:
            said.psubscribe("*")
            while not self._over.is_set():
                message: Any = said.get_message(ignore_subscribe_messages=True, timeout=_AGAIN)
                if message is not None:
                    said_of = str(message["data"])
                    self._emit("sentinel", source=f"broker:{sentinel.name}", said=message["channel"], of=said_of)
                    if message["channel"] in _OF_A_CHANGE:
                        self._look()
                    elif message["channel"] == _DEMOTES:
                        self._demoted(said_of)

    def _look(self) -> None:
        with self._changing:
            epoch, now = self._broker.learn(), self._broker.primary
            if epoch > self._epoch and now is not self._primary:
                before, self._primary, self._epoch = self._primary, now, epoch
                self._emit("promoted", source=f"broker:{now.name}", instead_of=before.name, epoch=epoch)

    def _demoted(self, of: str) -> None:
        _, _, host, port, *_ = of.split()
        server = next(each for each in self._broker.servers.values() if each.peer_address == (host, int(port)))
        with suppress(WaitExpired):
            wait.until(lambda: _is_replica(server), what=f"{server.name} to be a replica", timeout=_OBEYS)
            with self._changing:
                if self._demoted_in.get(server.name) != self._epoch:
                    self._demoted_in[server.name] = self._epoch
                    self._emit("demoted", source=f"broker:{server.name}")


def _is_replica(server: RedisServer) -> bool:
    with suppress(NoAnswer), answering():
        return bool(replication(server)["role"] == "slave")
    return False
