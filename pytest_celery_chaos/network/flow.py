"""What requests and replies have in common on their way: cut into frames, looked at one by one, held in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.network.holding import Held

if TYPE_CHECKING:
    from pytest_celery_chaos.network.connection import Connection
    from pytest_celery_chaos.network.rules import Rule
    from pytest_celery_chaos.network.way import Way

#: How far the first bytes of the frame that has begun have got.
BETWEEN: Final = 0
SENT: Final = 1
"""They went on before anything was armed: the rest follows, and nothing is asked."""
DECIDED: Final = 2
"""It is so large that what happens to it was decided by its beginning."""

#: Kinds of items: a whole frame, the beginning of a large one, more of that, the end of one that was sent unasked,
#: more of that.
WHOLE: Final = 0
HEAD: Final = 1
MORE: Final = 2
REST: Final = 3
PASS: Final = 4

#: What happens to bytes, beside going on (None) and being answered (bytes).
DROP: Final = b""

Step = Callable[[], None]


class Flow:
    """One direction of a connection, looked at.

    :param limit: bytes of one frame that may be kept before it is decided.
    """

    def __init__(self, connection: Connection, framer: Any, limit: int) -> None:
        self.connection, self.link = connection, connection.link
        self.conversation = connection.conversation
        self.framer = framer
        self.held: Held | None = None
        self.state = BETWEEN
        self.items: deque[tuple[int, bytes, Any, int]] = deque()
        self.script: deque[Step] = deque()
        self.dropping = False
        self.ending = False
        self.calm = True
        """Nothing is undecided: what comes next need not be looked at, unless something is armed."""
        self._partial = b""
        self._limit = limit
        self.way: Way

    @property
    def busy(self) -> bool:
        """Whether something is undecided, so that what comes next must be looked at too."""
        return bool(self.items or self.script or self._partial or self.held or self.state == DECIDED)

    def split(self, chunk: bytes, frames: Sequence[tuple[Any, ...]]) -> None:
        """Make items of a chunk and the frames that end in it."""
        begin = 0
        for end, what, *count in frames:
            raw, begin = self._partial + chunk[begin:end], end
            self._partial = b""
            kind = WHOLE if self.state == BETWEEN else REST if self.state == SENT else MORE
            self.items.append((kind, raw, what, count[0] if count else 0))
            self.state = BETWEEN
        rest = chunk[begin:]
        if not rest:
            return
        if self.state != BETWEEN:
            self.items.append((MORE if self.state == DECIDED else PASS, rest, None, 1))
            return
        self._partial += rest
        if len(self._partial) > self._limit:
            self.items.append((HEAD, self._partial, None, 0))
            self._partial, self.state = b"", DECIDED

    def pump(self) -> None:
        """Go on until everything is done or held."""
        while self.held is None and self.connection.open:
            if self.script:
                self.script.popleft()()
            elif self.items:
                self.take(*self.items.popleft())
            elif not self.settle():
                break
        self.calm = not self.busy
        if self.ending and not (self.held or self.script or self.items):
            self.ending = False
            self.way.finish()

    def take(self, kind: int, raw: bytes, what: Any, count: int) -> None:
        raise NotImplementedError

    def settle(self) -> bool:
        """Nothing is left to look at; True: something was done all the same."""
        return False

    def eof(self) -> None:
        """The source has said its last."""
        self.ending = True
        self.let_go()
        self.pump()

    def let_go(self, more: bytes = b"") -> None:
        """What is undecided goes on as it is, after what is decided: half a request, half a reply, no RESP at all."""
        raw, self._partial = b"".join(item[1] for item in self.items) + self._partial + more, b""
        self.items.clear()
        if raw:
            self.script.append(lambda: self.way.out(raw))

    # Holding

    def hold(self, rule: Rule) -> None:
        """Wait as a rule says."""
        seconds, late = (rule.deadline, "deadline") if rule.seconds is None else (rule.seconds, "time")
        self._hold([rule.id], seconds, late)

    def hold_at(self, moments: Sequence[Any], event: dict[str, Any]) -> None:
        """Wait at armed moments of the harness."""
        held = self._hold([each.id for each in moments], max(each.deadline for each in moments), "deadline")
        self.link.ask(held, moments, event)

    def _hold(self, ids: Sequence[int], seconds: float, late: str) -> Held:
        held = Held(self.link.loop, ids, self._released, seconds, late)
        self.held = held
        self.link.held.append(held)
        self.way.source.pause("held")
        self.connection.guard()
        return held

    def _released(self, held: Held, how: str) -> None:
        self.held = None
        self.link.held.remove(held)
        if how != "gone" and self.connection.client.gone():
            how = "gone"  # its owner was killed while it waited: what it was about to say, or hear, never was
        self.connection.tell_released(held, how)
        if how == "gone":
            self.connection.abandon()
            return
        self.connection.guard()
        self.way.source.resume("held")
        self.pump()
