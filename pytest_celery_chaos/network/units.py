"""One connection's conversation: which units its requests make, and which unit a reply answers.

A unit is one command, or all of a MULTI … EXEC. Replies come in the order of the requests, except what the server
sends of itself (messages, invalidations, MONITOR's lines) and what it never answers (CLIENT REPLY OFF): so every reply
can be told whose it is at any time, and a rule that is armed in mid-connection works from the next command on.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pytest_celery_chaos.brokers.wire import Wire, joined, message

_KEY: Final = 512
_COMMANDS: Final = 16
_TAGS: Final = 20_000
_UNKNOWN: Final = 50
_ANNOUNCED: Final = re.compile(rb"[*>]\d+\r\n[$+](?:\d+\r\n)?(\w+)\r\n")
_COUNT: Final = re.compile(rb":(\d+)\r\n\Z")
_MESSAGES: Final = frozenset({b"message", b"pmessage", b"smessage", b"invalidate"})
_ENDS: Final = frozenset({b"EXEC", b"DISCARD", b"RESET"})
_CONFIRM: Final = frozenset(b"subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe".split())


class Unit:
    """One command, or a MULTI … EXEC.

    :ivar commands: of a transaction: the names of its commands, the first sixteen.
    :ivar task: the task that it is about, where that is known; *name* is the task's, *tag* the delivery tag.
    :ivar replies: how many replies it is still due; 0: until nothing is subscribed to any more.
    :ivar shadow: a copy that the client knows nothing of: its reply is nobody's.
    :ivar told: an event of it has been written, and a second one is due.
    :ivar special: its reply has to be looked at, whether or not anything is armed by then.
    """

    # On the class, not in every instance: most units are never anything but counted.
    commands: list[bytes] | None = None
    task: bytes | None = None
    name: bytes | None = None
    tag: bytes | None = None
    replies = 1
    shadow = told = special = False

    def __init__(self, role: str, command: bytes, key: bytes, db: int) -> None:
        self.role, self.command, self.key, self.db = role, command, key, db


class Said(Unit):
    """Stands in the queue of replies for one that the proxy itself gives when its turn comes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("", b"", b"", 0)
        self.answer, self.special = answer, True


#: The reply to MULTI itself, and to each command that is queued in it.
INNER: Final = Unit("", b"", b"", 0)
#: The same, of a copy that the client knows nothing of.
SHADOW: Final = Unit("", b"", b"", 0)
SHADOW.shadow = SHADOW.special = True


class Seen:
    """What the connections of one link share: counts by role, unknown commands, and whose a delivery tag is."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.counts: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.tags: dict[bytes, tuple[bytes | None, bytes | None]] = {}
        self.eager = False
        """Whether the task of every unit is looked up; else only what has to be remembered is."""

    def count(self, unit: Unit) -> None:
        """One more unit of its role; of a command that nobody knows the name and the key too."""
        self.counts[unit.role] = self.counts.get(unit.role, 0) + 1
        if unit.role == "other":
            names = unit.commands or [unit.command]
            text = b" ".join([*names[:4], unit.key[:60]]).decode("utf-8", "backslashreplace")
            if text in self.unknown or len(self.unknown) < _UNKNOWN:
                self.unknown[text] = self.unknown.get(text, 0) + 1

    def remember(self, tag: bytes, task: bytes | None, name: bytes | None) -> None:
        """Whose a delivery tag is: an acknowledgement says no more than the tag."""
        if len(self.tags) >= _TAGS:
            del self.tags[next(iter(self.tags))]
        self.tags[tag] = (task, name)


class Conversation:
    """What one connection has said so far.

    :ivar pending: the units whose replies are due, in order.
    :ivar multi: the transaction that has begun and has not been executed.
    :ivar blind: it is a replica's: what follows is no conversation.
    :ivar odd: not everything that the server says of itself is marked as such: see :meth:`reply`.
    :ivar special: how many of the pending are :attr:`Unit.special`.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.pending: deque[Unit] = deque()
        self.multi: Unit | None = None
        self.db = self.special = 0
        self.blind = False
        self.watched = False
        self.odd = False
        self._listening = self._monitoring = False
        self._channels = self._patterns = 0
        self._mute = b""

    def request(self, args: Sequence[bytes], count: int) -> Unit | None:
        """What a request's reply will complete; :data:`INNER` in a transaction, None where none will come.

        The caller adds it to :attr:`pending`, unless the server is not to see the request.
        """
        if not args:
            return None
        command = args[0].upper()
        if self.multi is not None:
            return self._inside(self.multi, command, args)
        if (special := _SPECIAL.get(command)) is not None:
            return special(self, command, args, count)
        unit = self._unit(command, args)
        return unit if not self._mute else self._muted(unit)

    def _unit(self, command: bytes, args: Sequence[bytes]) -> Unit:
        seen = self.seen
        unit = Unit(seen.wire.role(command, args), command, args[1][:_KEY] if len(args) > 1 else b"", self.db)
        seen.count(unit)
        if seen.eager:
            self._whose(unit, command, args)
        return unit

    def _whose(self, unit: Unit, command: bytes, args: Sequence[bytes]) -> None:
        seen = self.seen
        if unit.tag is None:
            unit.tag = seen.wire.tag(command, args)
            if unit.tag is not None and unit.tag in seen.tags:
                unit.task, unit.name = seen.tags[unit.tag]
        if unit.task is None:
            unit.task = seen.wire.task(unit.role, command, args)
        if unit.name is None and command in (b"LPUSH", b"RPUSH", b"HSET"):
            unit.name = message(args[-1])[1]

    def _inside(self, unit: Unit, command: bytes, args: Sequence[bytes]) -> Unit | None:
        seen = self.seen
        if command in _ENDS:
            self.multi, self.watched = None, False
            if unit.role == "":
                unit.role = "other"
            seen.count(unit)
            if command == b"RESET":
                self.db = 0
            return self._muted(unit)
        role = seen.wire.role(command, args)
        if role != unit.role:
            unit.role = joined(unit.role, role, self.watched)
        commands = unit.commands
        if commands is not None and len(commands) < _COMMANDS:
            commands.append(command)
        if not unit.key and len(args) > 1:
            unit.key = args[1][:_KEY]
        if role == "record" and len(args) > 3 and command == b"HSET":
            unit.tag = args[2]
            unit.task, unit.name, _ = message(args[3])
            seen.remember(unit.tag, unit.task, unit.name)
        elif seen.eager:
            self._whose(unit, command, args)
        if role == "handshake" and command == b"SELECT" and len(args) > 1 and args[1].isdigit():
            self.db = int(args[1])
        return INNER if not self._mute else self._muted(INNER)

    def _muted(self, unit: Unit) -> Unit | None:
        if not self._mute:
            return unit
        if self._mute == b"SKIP":
            self._mute = b""
        return None

    # Commands that change how the rest is to be read

    def _multi(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        self.multi = Unit("", command, b"", self.db)
        self.multi.commands = [command]
        return self._muted(INNER)

    def _watch(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        unit = self._unit(command, args)
        self.watched = command == b"WATCH" and (self.watched or unit.role == "restore_read")
        return self._muted(unit)

    def _select(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        unit = self._unit(command, args)
        if len(args) > 1 and args[1].isdigit():
            self.db = int(args[1])
        return self._muted(unit)

    def _reset(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        self.db, self.watched, self._mute, self._monitoring = 0, False, b"", False
        self._channels = self._patterns = 0
        return self._unit(command, args)

    def _listen(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        self._listening = self.odd = True
        unit = self._unit(command, args)
        unit.replies = count - 1
        return unit

    def _monitor(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        self._monitoring = self.odd = True
        return self._unit(command, args)

    def _sync(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        self.blind = True
        return self._unit(command, args)

    def _client(self, command: bytes, args: Sequence[bytes], count: int) -> Unit | None:
        unit = self._unit(command, args)
        if len(args) > 2 and args[1].upper() == b"REPLY":
            mode = args[2].upper()
            if mode == b"ON":
                self._mute = b""
            elif mode in (b"OFF", b"SKIP") and self._mute != b"OFF":
                self._mute = mode
                return None
        return self._muted(unit)

    # Replies

    def reply(self, head: bytes) -> Unit | None:
        """The unit that a reply completes; None where it is a message, or more replies are due, or nobody has asked.

        :param head: the reply, or its beginning.
        """
        kind = head[0]
        if kind == 62 or (kind == 42 and self._listening):
            found = _ANNOUNCED.match(head)
            word = found[1] if found else b""
            if word in _CONFIRM:
                return self._confirmed(word, head)
            if kind == 62 or word in _MESSAGES:
                return None
        elif self._monitoring and kind == 43 and head[1:2].isdigit():
            return None
        return self.pending.popleft() if self.pending else None

    def _confirmed(self, word: bytes, head: bytes) -> Unit | None:
        found = _COUNT.search(head)
        total = int(found[1]) if found else self._channels + self._patterns
        if word in (b"subscribe", b"unsubscribe"):
            self._channels = total - self._patterns
            left = self._channels
        elif word in (b"psubscribe", b"punsubscribe"):
            self._patterns = total - self._channels
            left = self._patterns
        else:
            left = total  # shard channels are counted by themselves
        if not self.pending or self.pending[0].command.lower() != word:
            return None  # nobody has asked: the server has ended a subscription of itself
        unit = self.pending[0]
        if unit.replies > 1 or (unit.replies == 0 and left > 0):
            unit.replies -= unit.replies > 0
            return None
        self.pending.popleft()
        if not total and not any(each.command.lower() in _CONFIRM for each in self.pending):
            self._listening = False
        return unit


_Special = Callable[[Conversation, bytes, Sequence[bytes], int], "Unit | None"]
_SPECIAL: Final[dict[bytes, _Special]] = {
    b"MULTI": Conversation._multi,
    b"WATCH": Conversation._watch,
    b"UNWATCH": Conversation._watch,
    b"SELECT": Conversation._select,
    b"RESET": Conversation._reset,
    b"MONITOR": Conversation._monitor,
    b"SYNC": Conversation._sync,
    b"PSYNC": Conversation._sync,
    b"CLIENT": Conversation._client,
    **{word.upper(): Conversation._listen for word in _CONFIRM},
}
