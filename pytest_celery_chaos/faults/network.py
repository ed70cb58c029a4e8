"""Faults of the network between one process and one server, by Toxiproxy's names; each on the links that it names.

Links are declared by their use (see :mod:`pytest_celery_chaos.engine.links`). Units are those of a scenario: durations,
not Toxiproxy's milliseconds. Source of the toxics: https://github.com/Shopify/toxiproxy#toxics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_celery_chaos.errors import FaultWithoutEffect
from pytest_celery_chaos.values import Duration, LinkRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run

#: Towards the server, or from it.
Direction: TypeAlias = Literal["upstream", "downstream"]


def cut(
    run: Run,
    *,
    link: Sequence[LinkRef],
    how: Literal["rst", "fin"] = "rst",
    side: Literal["both", "client", "server"] = "both",
) -> None:
    """End the connections of links, all at once; new ones go through. Nothing heals it.

    At a moment of a link what is held there goes with its connection: ``{after: pop}`` is a reply that is never seen.

    :param link: the link, or several.
    :param how: ``rst`` is a reset, ``fin`` an orderly close.
    :param side: only towards the ``client`` (the process), or towards the ``server``.
    :raises FaultWithoutEffect: there is no connection.
    """
    ended = run.links.proxy.cut(links=run.links.known(link), how=how, side=side)
    if not ended:
        raise FaultWithoutEffect(
            f"no connection on {', '.join(link)}",
            where=run.step.place,
            hint="wait until there is one: a client connects when it first publishes or waits for a result",
        )
    run.tell(connections=ended)


def down(run: Run, *, link: Sequence[LinkRef], how: Literal["rst", "fin"] | None = None) -> Heal:
    """End the connections of links and refuse new ones, as a server that is not there. Heals by accepting again.

    :param link: the link, or several.
    :param how: ``rst`` is a reset, ``fin`` an orderly close. Default: a reset; Toxiproxy can only close.
    """
    proxy, names = run.links.bending, run.links.known(link)
    proxy.down(links=names, how=how)
    return lambda: proxy.up(links=names)


def freeze(
    run: Run,
    *,
    link: Sequence[LinkRef],
    stream: Literal["both", "upstream", "downstream"] = "both",
    connections: Literal["old", "new", "all"] = "all",
) -> Heal:
    """Forward nothing and keep the sockets open: the half-open connection of a machine that has lost its power.

    Heals by letting go on, with all that has come meanwhile.

    :param link: the link, or several.
    :param stream: only what goes ``upstream``, to the server, or ``downstream``, from it.
    :param connections: those that are ``old`` now, ``new`` ones only, or ``all``.
    """
    proxy, names = run.links.proxy, run.links.known(link)
    proxy.freeze(links=names, stream=stream, old=connections != "new", new=connections != "old")
    return lambda: proxy.thaw(links=names, stream=stream)


def partition(run: Run, *, link: Sequence[LinkRef], stream: Literal["both", "upstream", "downstream"] = "both") -> Heal:
    """Cut processes off from servers, as a network that drops every packet: nothing passes, nothing is refused.

    The links that are not named go on: name all of those on one side of the partition.

    :param link: the links that are on the other side.
    :param stream: both ways, or one.
    """
    return freeze(run, link=link, stream=stream)


def latency(
    run: Run,
    *,
    link: Sequence[LinkRef],
    latency: Duration,
    jitter: Duration = 0.0,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Delay everything that passes (Toxiproxy's ``latency``).

    :param link: the link, or several.
    :param latency: seconds.
    :param jitter: seconds more or less, at random.
    :param stream: ``upstream`` is towards the server.
    :param toxicity: the share of connections that it falls on.
    """
    return _toxic(run, "latency", link, stream, toxicity, latency=latency * 1000, jitter=jitter * 1000)


def bandwidth(
    run: Run,
    *,
    link: Sequence[LinkRef],
    rate: int,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Let no more than so much through (Toxiproxy's ``bandwidth``).

    :param link: the link, or several.
    :param rate: KB a second.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    return _toxic(run, "bandwidth", link, stream, toxicity, rate=rate)


def slow_close(
    run: Run,
    *,
    link: Sequence[LinkRef],
    delay: Duration,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Keep a connection open for a while after one side has closed it (Toxiproxy's ``slow_close``).

    :param link: the link, or several.
    :param delay: seconds.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    return _toxic(run, "slow_close", link, stream, toxicity, delay=delay * 1000)


def timeout(
    run: Run,
    *,
    link: Sequence[LinkRef],
    timeout: Duration,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Let nothing through, and close the connection after a while (Toxiproxy's ``timeout``); 0 never closes it.

    :param link: the link, or several.
    :param timeout: seconds.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    return _toxic(run, "timeout", link, stream, toxicity, timeout=timeout * 1000)


def reset_peer(
    run: Run,
    *,
    link: Sequence[LinkRef],
    timeout: Duration = 0.0,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Answer what comes with a reset, after a while (Toxiproxy's ``reset_peer``).

    Toxiproxy resets connections that are opened later; those that there are it closes.

    :param link: the link, or several.
    :param timeout: seconds.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    return _toxic(run, "reset_peer", link, stream, toxicity, timeout=timeout * 1000)


def slicer(
    run: Run,
    *,
    link: Sequence[LinkRef],
    average_size: int,
    size_variation: int = 0,
    delay: Duration = 0.0,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Cut what passes into small pieces (Toxiproxy's ``slicer``).

    :param link: the link, or several.
    :param average_size: bytes of a piece.
    :param size_variation: bytes more or less.
    :param delay: seconds between two pieces.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    pieces = {"average_size": average_size, "size_variation": size_variation, "delay": delay * 1e6}
    return _toxic(run, "slicer", link, stream, toxicity, **pieces)


def limit_data(
    run: Run,
    *,
    link: Sequence[LinkRef],
    bytes: int,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Heal:
    """Close a connection once so much has passed (Toxiproxy's ``limit_data``).

    :param link: the link, or several.
    :param bytes: how much; counted from now on.
    :param stream: as in ``latency``.
    :param toxicity: as in ``latency``.
    """
    return _toxic(run, "limit_data", link, stream, toxicity, bytes=bytes)


def _toxic(
    run: Run,
    type: str,
    link: Sequence[str],
    stream: Direction,
    toxicity: float,
    **attributes: float,
) -> Heal:
    proxy, names = run.links.bending, run.links.known(link)
    name = f"{type}-{run.step.index}"
    proxy.toxic(type, links=names, name=name, stream=stream, toxicity=toxicity, **attributes)
    return lambda: proxy.remove_toxic(name, links=names)
