"""The RESP-aware proxy: a process of its own, one thread, the standard library alone.

Started by :class:`~pytest_celery_chaos.network.proxy.Proxy` through the keeper, under ``python -I -S``. It serves any
number of links, and takes orders on a unix socket, one JSON document a line: ``{"n": 1, "do": "arm", …}`` is answered
by ``{"n": 1, …}`` or ``{"n": 1, "error": "…"}``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable
from select import EPOLLIN
from typing import Any

from pytest_celery_chaos.network.link import Link
from pytest_celery_chaos.network.loop import Loop
from pytest_celery_chaos.network.rules import Rule
from pytest_celery_chaos.network.toxics import Toxic

_STREAMS = {"both": ("upstream", "downstream"), "upstream": ("upstream",), "downstream": ("downstream",)}


class ProxyProcess:
    """The links of one process, and the orders that change them.

    :param path: of the socket for orders.
    :param ledgers: folder for the ledgers of the links; None: nothing is written.
    :param control: folder of the page of moments and its gate.
    """

    def __init__(self, path: str, ledgers: str | None, control: str | None) -> None:
        self.loop = Loop()
        self.links: dict[str, Link] = {}
        self.rules: dict[int, Rule] = {}
        self._ledgers, self._control = ledgers, control
        self._server = socket.socket(socket.AF_UNIX)
        self._server.setblocking(False)
        self._server.bind(path)
        self._server.listen(8)
        self.loop.watch(self._server.fileno(), EPOLLIN, self._accept)

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _address = self._server.accept()
            buffer = bytearray()
            self.loop.watch(connection.fileno(), EPOLLIN, lambda _: self._read(connection, buffer))

    def _read(self, connection: socket.socket, buffer: bytearray) -> None:
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.loop.forget(connection.fileno())
            connection.close()
            return
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line, buffer[: end + 1] = bytes(buffer[:end]), b""
            with contextlib.suppress(OSError):
                # Blocking: answers are small, and who asks waits for them.
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        number = None
        try:
            order = json.loads(line)
            number = order.pop("n")
            do: Callable[..., dict[str, Any] | None] = getattr(self, f"do_{order.pop('do')}")
            return {"n": number, **(do(**order) or {})}
        except Exception as error:
            return {"n": number, "error": f"{type(error).__name__}: {error}"}

    def _meant(self, links: Iterable[str] | None) -> list[Link]:
        return list(self.links.values()) if links is None else [self.links[name] for name in links]

    # Orders

    def do_hello(self) -> dict[str, Any]:
        return {"pid": os.getpid()}

    def do_link(self, **record: Any) -> None:
        self.links[record["name"]] = link = Link(self.loop, record, self._ledgers, self._control)
        for rule in self.rules.values():
            if rule.links is None and not rule.over:
                link.arm(rule)

    def do_unlink(self, name: str) -> None:
        self.links.pop(name).close()

    def do_names(self, name: str, names: dict[str, Any]) -> None:
        self.links[name].rename(names)

    def do_arm(self, rule: dict[str, Any]) -> None:
        made = Rule(rule)
        meant = self._meant(made.links)
        self.rules[made.id] = made
        for link in meant:
            link.arm(made)

    def do_disarm(self, rule: int) -> dict[str, Any]:
        for link in self.links.values():
            link.disarm(rule)
        return self.rules.pop(rule).state()

    def do_release(self, rule: int) -> dict[str, Any]:
        return {"released": sum(link.release(rule) for link in self.links.values())}

    def do_rule(self, rule: int) -> dict[str, Any]:
        holding = sum(rule in held.ids for link in self.links.values() for held in link.held)
        return {**self.rules[rule].state(), "holding": holding}

    def do_toxic(self, links: list[str] | None, toxic: dict[str, Any]) -> None:
        made = Toxic(toxic)
        for link in self._meant(links):
            if made.name in link.toxics:
                raise ValueError(f"{link.name} has a toxic {made.name!r} already")
            link.toxics[made.name] = made
            for connection in list(link.connections.values()):
                connection.add(made)

    def do_untoxic(self, links: list[str] | None, name: str) -> None:
        for link in self._meant(links):
            if link.toxics.pop(name, None) is not None:
                for connection in list(link.connections.values()):
                    connection.remove(name)

    def do_freeze(self, links: list[str] | None, stream: str, new: bool, old: bool) -> None:
        for link in self._meant(links):
            if new:
                link.frozen |= set(_STREAMS[stream])
            for connection in list(link.connections.values()) if old else ():
                for each in _STREAMS[stream]:
                    connection.freeze(each)

    def do_thaw(self, links: list[str] | None, stream: str) -> None:
        for link in self._meant(links):
            link.frozen -= set(_STREAMS[stream])
            for connection in list(link.connections.values()):
                for each in _STREAMS[stream]:
                    connection.thaw(each)

    def do_cut(self, links: list[str] | None, numbers: list[int] | None, how: str, side: str) -> dict[str, Any]:
        return {"cut": sum(link.cut(numbers, reset=how == "rst", side=side) for link in self._meant(links))}

    def do_down(self, links: list[str] | None, how: str) -> None:
        for link in self._meant(links):
            link.down(reset=how == "rst")

    def do_up(self, links: list[str] | None) -> None:
        for link in self._meant(links):
            link.up()

    def do_timeline(self, links: list[str] | None, roles: list[str] | None) -> None:
        for link in self._meant(links):
            link.timeline = None if roles is None else frozenset(roles)
            link.weigh()

    def do_stats(self) -> dict[str, Any]:
        return {"links": {name: link.stats() for name, link in self.links.items()}}

    def do_connections(self, links: list[str] | None) -> dict[str, Any]:
        return {"connections": [each.state() for link in self._meant(links) for each in link.connections.values()]}


def main() -> None:
    """Serve until killed: the keeper does that."""
    path, ledgers, control = sys.argv[1:4]
    process = ProxyProcess(path, ledgers or None, control or None)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # cycles are made by connections alone, and few
    process.loop.run()
