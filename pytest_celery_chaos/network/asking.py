"""Requests on their way to the server.

While nothing is armed they are sent on first and framed afterwards, so that framing costs no latency. Else a whole
unit is awaited before any of it goes on; a transaction as far as the client sends it in one go, since one that is
typed command by command would wait for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.network.flow import BETWEEN, DROP, HEAD, MORE, PASS, REST, SENT, Flow
from pytest_celery_chaos.network.resp import Malformed, Requests
from pytest_celery_chaos.network.units import INNER, SHADOW, Said, Unit

if TYPE_CHECKING:
    from pytest_celery_chaos.network.connection import Connection
    from pytest_celery_chaos.network.rules import Rule

LIMIT: Final = 65536
_DISCARD: Final = b"*1\r\n$7\r\nDISCARD\r\n"
_ABORTED: Final = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


class Frame:
    """One request on its way."""

    __slots__ = ("args", "asked", "command", "entry", "fate", "raw", "twice", "whole")

    def __init__(self, raw: bytes, args: Sequence[bytes], entry: Unit | None, whole: bool) -> None:
        self.raw, self.args, self.entry, self.whole = raw, args, entry, whole
        self.command = args[0].upper() if args else b""
        self.fate: bytes | None = None
        self.asked = self.twice = False


class Asking(Flow):
    """The client's direction."""

    framer: Requests

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, Requests(), LIMIT)
        self._collected: list[Frame] = []
        self._open: Unit | None = None
        """The transaction whose beginning has gone on."""
        self._fate: bytes | None = None
        self._asked = self._abort = self._server_in_multi = False

    @property
    def busy(self) -> bool:
        return super().busy or bool(self._collected) or self._open is not None or self._abort or self._fate is not None

    def data(self, chunk: bytes) -> None:
        """Bytes of the client."""
        conversation = self.conversation
        if conversation.blind:
            self.way.out(chunk)
            return
        if not self.link.careful() and self.calm:
            self.way.out(chunk)
            try:
                for _, args, count in self.framer.feed(chunk):
                    entry = conversation.request(args, count)
                    if entry is not None:
                        conversation.pending.append(entry)
            except Malformed:
                conversation.blind = True
            self.state = SENT if self.framer.size else BETWEEN
            return
        try:
            frames = self.framer.feed(chunk)
        except Malformed:
            conversation.blind = True
            self.let_go(chunk)
            self.pump()
            return
        if self.calm and conversation.multi is not None:
            self._open, self._server_in_multi = conversation.multi, True  # it began before anything was armed
        self.split(chunk, frames)
        self.pump()

    def let_go(self, more: bytes = b"") -> None:
        for frame in self._take_collected():
            self.script.append(partial(self._forward, frame))
        super().let_go(more)

    def take(self, kind: int, raw: bytes, what: Any, count: int) -> None:
        conversation = self.conversation
        if kind in (MORE, PASS):
            if kind == PASS or not self.dropping:
                self.way.out(raw)
            return
        args = self.framer.args if kind == HEAD else what
        before = conversation.multi
        entry = conversation.request(args, self.framer.count if kind == HEAD else count)
        if kind == REST:
            self._open, self._server_in_multi = conversation.multi, conversation.multi is not None
            self._expect(entry)
            self.way.out(raw)
            return
        multi = conversation.multi or before
        frame = Frame(raw, args, entry, kind != HEAD)
        if multi is None:
            self._decide(entry, [frame])
        elif self._open is multi:
            self._go_on(multi, frame)
        else:
            self._collected.append(frame)
            much = sum(len(each.raw) for each in self._collected) > LIMIT
            if conversation.multi is None or kind == HEAD or much:
                self._begin(multi)

    def settle(self) -> bool:
        if not self._collected or self.framer.size or self.conversation.multi is None:
            return False
        self._open = self.conversation.multi  # typed command by command: decided at its EXEC
        for frame in self._take_collected():
            self.script.append(partial(self._send, frame, self._open))
        return True

    def _begin(self, multi: Unit) -> None:
        """Decide a transaction: all of it is here, or so much that what is known must do."""
        frames = self._take_collected()
        if self.conversation.multi is not None:
            self._open, self._asked = multi, True
        self._decide(multi, frames)

    def _go_on(self, multi: Unit, frame: Frame) -> None:
        """One more command of a transaction whose beginning has gone on."""
        if self.conversation.multi is not None:
            self.script.append(partial(self._send, frame, multi))
            return
        self._open = None
        asked, self._asked = self._asked, False
        if not asked:
            self._decide(multi, [frame])
        else:
            self.script.append(partial(self._send, frame, multi))
            self.script.append(self._done)

    def _take_collected(self) -> list[Frame]:
        frames, self._collected = self._collected, []
        return frames

    def _decide(self, unit: Unit | None, frames: list[Frame]) -> None:
        """Ask what is armed for a unit, and write down in which order what happens."""
        rules: list[Rule] = []
        if unit is not None and unit is not INNER:
            link = self.link
            head = [arg for frame in frames for arg in frame.args]
            rules = link.rules_for(unit, ("request",), unit.command, unit.key, head)
            moments = link.moments_for(unit, "invoke")
            if rules or moments or link.wants(unit):
                event = self.connection.tell(unit, "invoke", rules)
                if moments:
                    self.script.append(partial(self.hold_at, moments, event))
        for rule in rules:
            self.script.append(partial(self._act, rule, frames, None))
        if unit is not None:
            self.script.extend(partial(self._send, frame, unit) for frame in frames)
        else:
            self.script.extend(partial(self._forward, frame) for frame in frames)
        self.script.append(self._done)

    def _done(self) -> None:
        """A unit has gone on. The rest of a large one, or of a transaction in parts, shares its fate."""
        if self._open is None:
            self._fate = None

    def _act(self, rule: Rule, frames: list[Frame], one: Frame | None) -> None:
        """Do what a rule says to a unit, or to *one* command of it."""
        if rule.do in ("hold", "delay"):
            self.hold(rule)
        elif rule.do == "cut":
            self.connection.cut(rule.how, rule.side)
            self.script.clear()
            self.items.clear()  # a client that is left has nobody who would answer
        elif rule.do in ("drop", "answer"):
            fate = DROP if rule.do == "drop" else rule.answer
            if one is not None:
                one.fate = fate
            else:
                self._fate = fate
        elif rule.do == "duplicate" and all(frame.whole for frame in frames):
            if len(frames) == 1:
                frames[0].twice = True
            else:
                for frame in frames:
                    self.script.insert(self.script.index(self._done), partial(self._again, frame))

    def _again(self, frame: Frame) -> None:
        """Send a request a second time; the reply to that is nobody's."""
        self.way.out(frame.raw)
        entry = frame.entry
        if entry is None:
            return
        shadow = SHADOW
        if entry is not INNER:
            shadow = Unit(entry.role, entry.command, entry.key, entry.db)
            shadow.replies, shadow.shadow, shadow.special = entry.replies, True, True
        self._expect(shadow)

    def _send(self, frame: Frame, unit: Unit) -> None:
        """Send a request on, or do what was decided of it."""
        if not frame.asked and unit.commands is not None and self.link.rules:
            frame.asked = True
            key = frame.args[1] if len(frame.args) > 1 else b""
            rules = self.link.rules_for(unit, ("request",), frame.command, key, frame.args, inside=True)
            if rules:
                self.connection.tell(unit, "invoke", rules, of=frame.command.decode("latin-1"))
                self.script.appendleft(partial(self._send, frame, unit))
                for rule in reversed(rules):
                    self.script.appendleft(partial(self._act, rule, [frame], frame))
                return
        fate = frame.fate if frame.fate is not None else self._fate
        if fate is None and self._abort and frame.command == b"EXEC":
            fate = _ABORTED
        if fate is None:
            self._forward(frame)
            if frame.twice:
                self._again(frame)
        elif fate == DROP:
            self.dropping = True
        else:
            self.dropping = True
            self._answer(frame, unit, fate)

    def _forward(self, frame: Frame) -> None:
        self.dropping = False
        if frame.command in (b"MULTI", b"EXEC", b"DISCARD", b"RESET"):
            self._server_in_multi = frame.command == b"MULTI"
            if frame.command != b"MULTI":
                self._abort = False
        self._expect(frame.entry)
        self.way.out(frame.raw)

    def _answer(self, frame: Frame, unit: Unit, answer: bytes) -> None:
        """Answer instead of the server; of a transaction, its EXEC."""
        if frame.entry is None:
            return
        if frame.entry is not INNER:
            if frame.command == b"EXEC" and self._server_in_multi:
                self._server_in_multi = False
                self.way.out(_DISCARD)
                self._expect(SHADOW)
            self._abort = False
            self.connection.answered(unit)
        elif frame.fate is not None:
            self._abort = answer.startswith(b"-")
        else:
            answer = b"+OK\r\n" if frame.command == b"MULTI" else b"+QUEUED\r\n"
        self._expect(Said(answer))
        self.connection.answering.pump()

    def _expect(self, entry: Unit | None) -> None:
        if entry is not None:
            conversation = self.conversation
            conversation.pending.append(entry)
            conversation.special += entry.special
