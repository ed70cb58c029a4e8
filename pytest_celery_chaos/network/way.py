"""One direction of a connection: what its bytes pass, how much of them may wait, and how it is made to stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_celery_chaos.network.loop import HIGH, End, Loop

if TYPE_CHECKING:
    from pytest_celery_chaos.network.toxics import Stage, Toxic


class Way:
    """From *source* to *target*, through the stages of the toxics that are on.

    :param stream: ``upstream`` (to the server) or ``downstream``, as Toxiproxy calls them.
    :param end: ends the whole connection, with RST if it is given True.
    :param over: called when everything that the source has said is sent.
    """

    def __init__(
        self,
        loop: Loop,
        stream: str,
        source: End,
        target: End,
        *,
        end: Callable[[bool], None],
        over: Callable[[], None],
    ) -> None:
        self.loop, self.stream, self.source, self.target = loop, stream, source, target
        self._end, self._over = end, over
        self._stages: dict[str, Stage] = {}
        self._line: list[Stage] = []
        target.on_drain = self.relieved

    def out(self, data: bytes) -> None:
        """Send *data* on its way."""
        if self._line:
            self._line[0].feed(data)
        else:
            self.target.write(data)
        if self._waiting() > HIGH:
            self.source.pause("full")

    def finish(self) -> None:
        """The source has said its last."""
        if self._line:
            self._line[0].close()
        else:
            self.target.finish()

    def relieved(self) -> None:
        """Read on, once little enough is waiting."""
        if self._waiting() < HIGH // 2:
            self.source.resume("full")
        if self.target.finished:
            self._over()

    def end(self, *, reset: bool) -> None:
        self._end(reset)

    def add(self, toxic: Toxic) -> None:
        """Put a toxic last, if it is for this direction and falls on this connection."""
        if toxic.stream == self.stream and (stage := toxic.stage(self)) is not None:
            self._stages[toxic.name] = stage
            self._join()

    def remove(self, name: str) -> None:
        """Take a toxic away; what it has held goes on."""
        stage = self._stages.pop(name, None)
        if stage is not None:
            stage.remove()
            self._join()
            self.relieved()

    def freeze(self) -> None:
        """Neither read nor send; the sockets stay as they are."""
        self.source.pause("frozen")
        self.target.frozen = True
        self.target.update()

    def thaw(self) -> None:
        self.target.frozen = False
        self.target.flush()
        self.source.resume("frozen")

    @property
    def frozen(self) -> bool:
        return self.target.frozen

    def _waiting(self) -> int:
        return self.target.queued + (sum(stage.held for stage in self._line) if self._line else 0)

    def _join(self) -> None:
        self._line = list(self._stages.values())
        for stage, following in zip(self._line, [*self._line[1:], None], strict=False):
            stage.feed_next = following.feed if following else self.target.write
            stage.close_next = following.close if following else self.target.finish
