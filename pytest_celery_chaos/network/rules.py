"""Which units a rule means, and what is to happen to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from typing import Any

from pytest_celery_chaos.network.units import Unit

ACTIONS = ("watch", "hold", "delay", "drop", "cut", "answer", "duplicate")
"""``watch`` does nothing but tell."""
WHEN = ("request", "reply", "done")
"""Before the server sees the request; before the client sees the reply; after it has seen it."""


class Rule:
    """A rule of one process; see :meth:`pytest_celery_chaos.network.proxy.Proxy.arm` for what the fields mean.

    :ivar seen: how many units it has meant; *acted*, on how many of them it has acted.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        get = record.get
        self.id: int = record["id"]
        self.do: str = record["do"]
        self.when: str = get("when") or "request"
        self.links: Sequence[str] | None = get("links")
        self.role: str | None = get("role")
        self.command: bytes | None = _bytes(get("command"))
        self.db: int | None = get("db")
        self.multi: bool | None = get("multi")
        self.nth, self.times = int(get("nth") or 1), get("times", 1)
        self.seconds: float | None = get("seconds")
        self.deadline = float(get("deadline") or 30.0)
        self.how, self.side = get("how") or "fin", get("side") or "both"
        self.answer = (get("answer") or "").encode("latin-1")
        if self.command is not None:
            self.command = self.command.upper()
        self._key = re.compile(translate(record["key"]).encode(), re.DOTALL) if get("key") is not None else None
        self._task, self._name, self._contains = map(_bytes, (get("task"), get("name"), get("contains")))
        self.seen = self.acted = 0

    @property
    def over(self) -> bool:
        """Whether it has acted as often as it was to."""
        return self.times is not None and self.acted >= self.times

    @property
    def in_whole(self) -> bool:
        """Whether it is about units, not about the single commands of a transaction."""
        return self.command is None

    def takes(self, unit: Unit, command: bytes, key: bytes, head: Sequence[bytes], multi: bool) -> bool:
        """Count a unit, or a command of it; True: it is one to act on.

        :param head: what is known of its bytes.
        """
        if (
            self.over
            or (self.role is not None and self.role != unit.role)
            or (self.command is not None and self.command != command)
            or (self.db is not None and self.db != unit.db)
            or (self.multi is not None and self.multi != multi)
            or (self._key is not None and not self._key.fullmatch(key))
            or (self._task is not None and not (unit.task or b"").startswith(self._task))
            or (self._name is not None and self._name != unit.name)
            or (self._contains is not None and not any(self._contains in each for each in head))
        ):
            return False
        self.seen += 1
        if self.seen < self.nth:
            return False
        self.acted += 1
        return True

    def state(self) -> dict[str, Any]:
        """For the harness."""
        return {"id": self.id, "seen": self.seen, "acted": self.acted, "over": self.over}


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
