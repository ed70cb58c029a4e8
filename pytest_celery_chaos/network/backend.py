"""What a run's links need of whatever stands behind them: our own proxy that speaks RESP, or Toxiproxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.network.toxics import ATTRIBUTES

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child

#: The verbs of :mod:`pytest_celery_chaos.faults.network` that both can do.
BYTES: Final = frozenset({*ATTRIBUTES, "down"})
How: TypeAlias = Literal["fin", "rst"]
#: Seconds that a proxy may take to start; it takes milliseconds.
START_SECONDS: Final = 20.0


class LinkProxy(Protocol):
    """Both kinds: links, and faults of bytes by Toxiproxy's names."""

    @property
    def children(self) -> Sequence[Child]:
        """Its processes."""

    @property
    def alive(self) -> bool: ...

    def link(
        self,
        name: str,
        upstream: tuple[str, int],
        *,
        naming: Naming | None = None,
        tls: Mapping[str, Any] | None = None,
    ) -> int:
        """Listen for what is to reach *upstream*; returns the port, which stays the link's own.

        :param tls: *upstream* speaks TLS: ``ca``, a file.
        """

    def port(self, name: str) -> int: ...

    def rename(self, name: str, naming: Naming) -> None:
        """By which names the application's keys are called, once that is known."""

    def toxic(
        self,
        type: str,
        *,
        links: Sequence[str] | None = None,
        name: str | None = None,
        stream: Literal["upstream", "downstream"] = "downstream",
        toxicity: float = 1.0,
        **attributes: float,
    ) -> str:
        """Add a toxic, by Toxiproxy's names and attributes; returns its name."""

    def remove_toxic(self, name: str, *, links: Sequence[str] | None = None) -> None: ...

    def down(self, *, links: Sequence[str] | None = None, how: How | None = None) -> None:
        """Refuse connections, and end those that there are."""

    def up(self, *, links: Sequence[str] | None = None) -> None: ...

    def owners(self, server: int, links: Mapping[str, str]) -> dict[int, str]:
        """By its port as the server on port *server* sees it, whose each connection through one of *links* is."""

    def ends(self) -> dict[tuple[int, int], str]:
        """What both ends of a way through a link are called: that of the client, and the one that the server sees.

        Each by its own port and the one that it leads to. A port alone is no name: the system gives it to several
        connections at once, if they lead to different ports.
        """

    def close(self) -> None:
        """End its processes and let go of their ports. Idempotent."""


def known_toxic(type: str, stream: str, attributes: Mapping[str, float]) -> None:
    """Refuse a toxic that neither proxy has.

    :raises UsageError: with what there is.
    """
    one_of("toxic", type, ATTRIBUTES)
    one_of("stream", stream, ("upstream", "downstream"))
    for attribute in attributes:
        one_of(f"attribute of {type}", attribute, ATTRIBUTES[type])


def known_links(links: Sequence[str] | None, there: Mapping[str, Any]) -> None:
    """Refuse the name of a link that is not among those that are *there*."""
    for name in links or ():
        if name not in there:
            raise UsageError(f"there is no link {name!r}", hint=f"links: {', '.join(there) or 'none'}")


def one_of(what: str, value: str, known: Any) -> None:
    """Refuse a word that is not *known*."""
    if value not in known:
        raise UsageError(f"no {what} is called {value!r}", hint=f"one of: {', '.join(sorted(known))}")
