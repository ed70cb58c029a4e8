"""One client's connection and the one to the server that stands for it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.network.answering import Answering
from pytest_celery_chaos.network.asking import Asking
from pytest_celery_chaos.network.loop import End
from pytest_celery_chaos.network.units import Conversation, Unit
from pytest_celery_chaos.network.way import Way

if TYPE_CHECKING:
    from pytest_celery_chaos.network.holding import Held
    from pytest_celery_chaos.network.link import Link
    from pytest_celery_chaos.network.rules import Rule
    from pytest_celery_chaos.network.toxics import Toxic


class Connection:
    """A pair of sockets, both directions of what passes between them, and the conversation that it is.

    :ivar number: from 1, of its link.
    """

    def __init__(self, link: Link, number: int, client: socket.socket, server: End) -> None:
        self.link, self.number = link, number
        self.open = True
        self.conversation = Conversation(link.seen)
        self._peer = client.getpeername()[1]
        self.client, self.server = End(link.loop, client), server
        self._told: dict[int, Unit] = {}
        self.up = Way(link.loop, "upstream", self.client, server, end=self._end, over=self._over)
        self.down = Way(link.loop, "downstream", server, self.client, end=self._end, over=self._over)
        self.asking, self.answering = Asking(self), Answering(self)
        self.asking.way, self.answering.way = self.up, self.down
        self.client.on_data, self.server.on_data = self.asking.data, self.answering.data
        self.client.on_eof, self.server.on_eof = self._client_eof, self.answering.eof
        self.client.on_gone = self.server.on_gone = self._gone

    @property
    def blind(self) -> bool:
        """Whether what passes is not understood: a replica's stream, or no RESP."""
        return self.conversation.blind

    def add(self, toxic: Toxic) -> None:
        self.up.add(toxic)
        self.down.add(toxic)

    def remove(self, name: str) -> None:
        self.up.remove(name)
        self.down.remove(name)

    def freeze(self, stream: str) -> None:
        (self.up if stream == "upstream" else self.down).freeze()

    def thaw(self, stream: str) -> None:
        (self.up if stream == "upstream" else self.down).thaw()

    def cut(self, how: str, side: str) -> None:
        """End it: ``fin`` or ``rst``, towards both sides or one. The other side then talks to nobody."""
        if side == "both":
            self.close(reset=how == "rst")
            return
        end = self.client if side == "client" else self.server
        end.on_gone = end.on_eof = end.on_drain = lambda: None
        end.close(reset=how == "rst")
        if not (self.client.open or self.server.open):
            self.close()

    def close(self, *, reset: bool = False) -> None:
        """End both sides."""
        if not self.open:
            return
        self.open = False
        for flow in (self.asking, self.answering):
            if flow.held is not None:
                flow.held.end("gone")
        self.client.close(reset=reset)
        self.server.close(reset=reset)
        self.link.connections.pop(self.number, None)
        for unit in self._told.values():
            self.link.tell(unit, "unknown", self.number, ())
        self._told.clear()

    def abandon(self) -> None:
        """The client is gone, and with it whatever was held."""
        self.close(reset=True)

    def guard(self) -> None:
        """While something is held the client is watched, though it is not read."""
        self.client.guarded = self.asking.held is not None or self.answering.held is not None
        self.client.update()

    # What is told

    def tell(self, unit: Unit, phase: str, rules: Sequence[Rule], **more: Any) -> dict[str, Any]:
        """The first event of a unit; a second one follows, whatever happens."""
        if not unit.told:
            unit.told = unit.special = True
            self._told[id(unit)] = unit
        return self.link.tell(unit, phase, self.number, rules, **more)

    def tell_end(self, unit: Unit, phase: str, rules: Sequence[Rule], **more: Any) -> dict[str, Any]:
        self._told.pop(id(unit), None)
        return self.link.tell(unit, phase, self.number, rules, **more)

    def answered(self, unit: Unit) -> None:
        """The proxy has answered instead of the server, which never saw it."""
        if unit.told:
            self.tell_end(unit, "fail", (), answered=True)

    def tell_released(self, held: Held, how: str) -> None:
        attrs = {"rules": held.ids, "how": how, "held": monotonic_ns() - held.began, "conn": self.number}
        self.link.write("released", None, None, attrs)

    def state(self) -> dict[str, Any]:
        """For the harness."""
        local = to = None
        if self.server.open and self.server.sock.family != socket.AF_UNIX:
            local, to = self.server.sock.getsockname()[1], self.link.upstream[1]
        flows = (self.asking, self.answering)
        return {
            "link": self.link.name,
            "conn": self.number,
            "client": self._peer,
            "port": self.link.port,
            "server": local,
            "to": to,
            "db": self.conversation.db,
            "pending": len(self.conversation.pending),
            "frozen": [way.stream for way in (self.up, self.down) if way.frozen],
            "held": [number for flow in flows if flow.held is not None for number in flow.held.ids],
            "blind": self.blind,
        }

    # What happens to it

    def _client_eof(self) -> None:
        if self.asking.held is not None or self.answering.held is not None:
            self._gone()
        else:
            self.asking.eof()

    def _gone(self) -> None:
        """One side is lost: the other is told so, as the kernel would tell it."""
        self.close(reset=True)

    def _end(self, reset: bool) -> None:
        self.close(reset=reset)

    def _over(self) -> None:
        if self.down.target.finished and (self.up.target.finished or not self.client.open):
            self.close()
