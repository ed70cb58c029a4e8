"""Replies on their way to the client."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.wire import message
from pytest_celery_chaos.network.flow import BETWEEN, HEAD, MORE, PASS, REST, SENT, Flow
from pytest_celery_chaos.network.resp import HEAD as KEPT
from pytest_celery_chaos.network.resp import Malformed, Replies
from pytest_celery_chaos.network.units import INNER, Said, Unit

if TYPE_CHECKING:
    from pytest_celery_chaos.network.connection import Connection
    from pytest_celery_chaos.network.rules import Rule

_NIL = (b"*-1", b"$-1", b"_\r\n")


class Answering(Flow):
    """The server's direction."""

    framer: Replies

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, Replies(), KEPT)
        self._afterwards: list[Rule] = []

    def data(self, chunk: bytes) -> None:
        """Bytes of the server."""
        conversation = self.conversation
        if conversation.blind:
            self.way.out(chunk)
            return
        careful = self.link.careful() or conversation.special or not self.calm
        if not careful:
            self.way.out(chunk)
        try:
            frames = self.framer.feed(chunk)
        except Malformed:
            conversation.blind = True
            if careful:
                self.let_go(chunk)
                self.pump()
            return
        if careful:
            self.split(chunk, frames)
            self.pump()
            return
        begin, pending, odd = 0, conversation.pending, conversation.odd
        for end, head in frames:
            if not odd and (chunk[begin] if head is None else head[0]) != 62:  # no push
                if pending:
                    pending.popleft()
            else:
                conversation.reply(chunk[begin : min(end, begin + KEPT)] if head is None else head)
            begin = end
        self.state = SENT if self.framer.size else BETWEEN

    def take(self, kind: int, raw: bytes, what: Any, count: int) -> None:
        if kind in (MORE, PASS):
            if kind == PASS or not self.dropping:
                self.way.out(raw)
            if not count and self._afterwards:  # that was its end
                self._finally()
            return
        if kind == REST:
            self.way.out(raw)
            self.conversation.reply(what or raw)
            return
        self._say()
        self._decide(raw, what or raw[:KEPT], whole=kind != HEAD)

    def settle(self) -> bool:
        """Where the proxy's own answers are next in turn, they are given now."""
        return self.state == BETWEEN and self._say()

    def _say(self) -> bool:
        pending, given = self.conversation.pending, False
        while pending and isinstance(pending[0], Said):
            said = pending.popleft()
            assert isinstance(said, Said)
            self.conversation.special -= 1
            self.way.out(said.answer)
            given = True
        return given

    def _decide(self, raw: bytes, head: bytes, *, whole: bool) -> None:
        unit = self.conversation.reply(head)
        self.dropping = False
        if unit is None or unit is INNER:
            self.way.out(raw)
        elif unit.shadow:
            self.conversation.special -= 1
            self.dropping = True
        else:
            self.conversation.special -= unit.special
            self._of(unit, raw, head, whole)

    def _of(self, unit: Unit, raw: bytes, head: bytes, whole: bool) -> None:
        """The reply that completes a unit."""
        link, nil = self.link, head.startswith(_NIL)
        if unit.role in ("pop", "get") and not nil:
            unit.task, unit.name, unit.tag = message(head)
            if unit.tag is not None:
                link.seen.remember(unit.tag, unit.task, unit.name)
        failed = head[:1] in (b"-", b"!") or (nil and unit.commands is not None)
        phase = "fail" if failed else "ok"
        rules, moments = [], []
        if not (nil and unit.role in ("pop", "get", "wait_reply")):  # nothing was popped
            rules = link.rules_for(unit, ("reply", "done"), unit.command, unit.key, [head])
            if unit.commands is not None:
                rules += link.rules_for(unit, ("reply", "done"), b"EXEC", unit.key, [head], inside=True)
            moments = link.moments_for(unit, phase)
        if unit.told or rules or moments or link.wants(unit):
            more = {"error": head[1:81].split(b"\r")[0].decode("latin-1")} if head[:1] == b"-" else {}
            event = self.connection.tell_end(unit, phase, rules, **more, **({"nil": True} if nil else {}))
            if moments:
                self.script.append(partial(self.hold_at, moments, event))
        for rule in rules:
            if rule.when == "reply":
                self.script.append(partial(self._act, rule))
        self._afterwards = [rule for rule in rules if rule.when == "done"]
        self.script.append(partial(self._send, raw, whole))

    def _act(self, rule: Rule) -> None:
        if rule.do in ("hold", "delay"):
            self.hold(rule)
        elif rule.do == "cut":
            self.connection.cut(rule.how, rule.side)
            if not self.connection.open or rule.side == "client":
                self.script.clear()
        elif rule.do == "drop":
            self.dropping = True
        elif rule.do == "answer":
            self.dropping = True
            self.way.out(rule.answer)

    def _send(self, raw: bytes, whole: bool) -> None:
        if not self.dropping:
            self.way.out(raw)
        if whole and self._afterwards:
            self._finally()

    def _finally(self) -> None:
        rules, self._afterwards = self._afterwards, []
        for rule in rules:
            if rule.do == "cut":
                self.connection.cut(rule.how, rule.side)
            elif rule.do in ("hold", "delay"):
                self.hold(rule)
