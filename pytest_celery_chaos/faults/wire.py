"""Faults of single commands on their way: what one process sends to a server, or is answered, by its role to Celery.

Each is armed where it stands and acts on the first command that it means from then on; a run in which none came is
inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pytest_celery_chaos.values import Count, Duration, LinkRef, TaskRef, WireRoleRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def drop(
    run: Run,
    *,
    link: Sequence[LinkRef],
    role: WireRoleRef | None = None,
    command: str | None = None,
    stage: Literal["request", "reply"] = "request",
    task: TaskRef | None = None,
    key: str | None = None,
    db: int | None = None,
    nth: Count = 1,
    times: Count = 1,
) -> Heal:
    """Swallow a request, so that the server never sees it, or a reply, so that nobody learns of it. Heals by no more.

    The connection stays: who waits for the answer waits, until it gives up.

    :param link: the link, or several.
    :param role: what the command is to Celery: ``publish``, ``pop``, ``store`` …; a MULTI … EXEC is one.
    :param command: a Redis command, by its name, instead of a role or beside it.
    :param stage: the ``request`` or the ``reply``.
    :param task: only what is about this task.
    :param key: only with this first key, or channel; a glob.
    :param db: only where this database is selected.
    :param nth: the first that is meant.
    :param times: how many are.
    """
    return _armed(run, "drop", link, _what(run, locals()))


def answer(
    run: Run,
    *,
    link: Sequence[LinkRef],
    answer: str,
    role: WireRoleRef | None = None,
    command: str | None = None,
    task: TaskRef | None = None,
    key: str | None = None,
    db: int | None = None,
    nth: Count = 1,
    times: Count | None = 1,
) -> Heal:
    """Answer a command instead of the server, which never sees it. Heals by no more.

    :param link: the link, or several.
    :param answer: a line of RESP: ``-LOADING Redis is loading the dataset in memory``, ``-READONLY …``, ``-OOM …``,
        ``-MISCONF …``, ``-UNBLOCKED …``; of a transaction it is what its EXEC is answered.
    :param role: as in ``drop``.
    :param command: as in ``drop``.
    :param task: as in ``drop``.
    :param key: as in ``drop``.
    :param db: as in ``drop``.
    :param nth: as in ``drop``.
    :param times: as in ``drop``; ``null``: all, until it heals.
    """
    return _armed(run, "answer", link, _what(run, locals()))


def delay(
    run: Run,
    *,
    link: Sequence[LinkRef],
    seconds: Duration,
    role: WireRoleRef | None = None,
    command: str | None = None,
    stage: Literal["request", "reply"] = "request",
    task: TaskRef | None = None,
    key: str | None = None,
    db: int | None = None,
    nth: Count = 1,
    times: Count = 1,
) -> Heal:
    """Keep a request or a reply, and all behind it on its connection, for a while. Heals by no more.

    :param link: the link, or several.
    :param seconds: for how long.
    :param role: as in ``drop``.
    :param command: as in ``drop``.
    :param stage: as in ``drop``.
    :param task: as in ``drop``.
    :param key: as in ``drop``.
    :param db: as in ``drop``.
    :param nth: as in ``drop``.
    :param times: as in ``drop``.
    """
    return _armed(run, "delay", link, _what(run, locals()))


def duplicate(
    run: Run,
    *,
    link: Sequence[LinkRef],
    role: WireRoleRef | None = None,
    command: str | None = None,
    task: TaskRef | None = None,
    key: str | None = None,
    db: int | None = None,
    nth: Count = 1,
    times: Count = 1,
) -> Heal:
    """Send a request twice, as a client that tries again does; who sent it sees one reply. Heals by no more.

    :param link: the link, or several.
    :param role: as in ``drop``.
    :param command: as in ``drop``.
    :param task: as in ``drop``.
    :param key: as in ``drop``.
    :param db: as in ``drop``.
    :param nth: as in ``drop``.
    :param times: as in ``drop``.
    """
    return _armed(run, "duplicate", link, _what(run, locals()))


def timeline(run: Run, *, link: Sequence[LinkRef], role: Sequence[WireRoleRef] = ()) -> Heal:
    """Write every command of a link down from now on, as events ``wire_ROLE``; nothing is broken. Heals by no more.

    :param link: the link, or several.
    :param role: only these roles; default: all.
    """
    proxy, names = run.links.proxy, run.links.known(link)
    proxy.timeline(role, links=names)
    return lambda: proxy.timeline(None, links=names)


def _what(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a verb as the proxy's."""
    what = {key: value for key, value in given.items() if key not in ("run", "link", "stage", "task")}
    if "stage" in given:
        what["when"] = given["stage"]
    if given.get("task") is not None:
        what |= run.meant(given["task"])
    return what


def _armed(run: Run, do: str, link: Sequence[str], what: dict[str, Any]) -> Heal:
    links, step = run.links, run.step
    armed = links.arm(do, links=links.known(link), **what)

    def heal() -> None:
        if not links.disarm(armed):
            told = what.get("role") or what.get("command") or "a command"
            run.missed(step, f"{told} on {', '.join(link)}")

    return heal
