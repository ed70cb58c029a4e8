"""How many connections each process keeps open to the servers, as the servers and /proc tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.storage import look_called, no_look
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import ClientRef, StepRef, WorkerRef

#: How many more than at the start are no leak: pools fill with their first use. Over 300 runs of this project's
#: scenarios on Celery 5.7 it was 1 to 7; a client that publishes or reads in many threads opens more.
POOLS = 10


def connections(
    history: History,
    *,
    worker: WorkerRef | None = None,
    client: ClientRef | None = None,
    to: Literal["broker", "backend"] | None = None,
    max: int | None = None,
    more: int | None = None,
    since: StepRef | None = None,
    at: StepRef | None = None,
) -> Finding:
    """A process must not keep opening connections: in the end it may have a few more than at the start.

    Counted by CLIENT LIST and /proc, for each process with its children, living pools and all; the harness's own do
    not count. A worker that had none at the start is held against *max* alone.

    *seen*: the most that one process has, where *max* is given and exceeded or holds; else by how many its number
    has grown at most. Inconclusive where nobody looked at the start or at the end.

    :param worker: only this worker's.
    :param client: only this client's.
    :param to: only those to where messages are kept (``broker``), or results (``backend``).
    :param max: so many at most.
    :param more: so many more than before at most; by default 10 (pools fill with their first use), or any with *max*.
    :param since: the name of a ``snapshot`` step to compare with; by default the start of the run.
    :param at: the name of a ``snapshot`` step to count at; by default the end of the run.
    """
    first, last = since or "start", at or "end"
    before, after = look_called(history, first), look_called(history, last)
    if before is None or after is None:
        return no_look(history, last if before else first)
    wanted = {f"worker:{worker}"} if worker else set()
    wanted |= {f"client:{client}"} if client else set()
    had, has = _by_process(before, wanted, to), _by_process(after, wanted, to)
    if not has:
        return view.inconclusive(
            f"{' and '.join(sorted(wanted)) or 'nobody'} had a connection at {view.at(history, after)}"
        )
    told = ", ".join(f"{process} {count} (before {had[process]})" for process, count in sorted(has.items()))
    told += f" between {view.at(history, before)} and {view.at(history, after)}"
    return _judged(had, has, max, more, told, (before, after))


def _judged(
    had: Mapping[str, int],
    has: Mapping[str, int],
    most: int | None,
    more: int | None,
    told: str,
    looks: tuple[Event, ...],
) -> Finding:
    count = max(has.values())
    # A client connects when it is first told to do something; a worker without connections was not there.
    grown = [now - had[process] for process, now in has.items() if had[process] or "worker" not in process]
    if most is not None and count > most:
        return Finding("violated", f"more than {most} connections: {told}", count, looks)
    allowed = POOLS if more is None and most is None else more
    if allowed is not None and grown and max(grown) > allowed:
        return Finding("violated", f"more than {allowed} connections more: {told}", max(grown), looks)
    if most is not None:
        return Finding("holds", f"at most {most} connections: {told}", count)
    if not grown:
        return view.inconclusive(f"nobody who had connections before has any now: {told}", *looks)
    return Finding("holds", f"at most {allowed} connections more: {told}", max(grown))


def _by_process(look: Event, wanted: set[str], to: str | None) -> Mapping[str, int]:
    places = {
        (space["server"], space["db"])
        for space in look.attrs.get("spaces") or ()
        if to is None or space["results" if to == "backend" else "messages"]
    }
    counted: Counter[str] = Counter()
    for each in look.attrs.get("clients") or ():
        there = to is None or (each["server"], each["db"]) in places
        if there and (not wanted or each["process"] in wanted):
            counted[each["process"]] += each["count"]
    return counted


def subscriptions(
    history: History,
    *,
    max: int,
    worker: WorkerRef | None = None,
    client: ClientRef | None = None,
    at: StepRef | None = None,
) -> Finding:
    """A process must not stay subscribed to channels (SUBSCRIBE) that it waits for nothing on: those of old results.

    *seen*: to how many the one process is subscribed that is to most, in all. Inconclusive where nobody looked, or
    none of them was connected then.

    :param max: so many at most.
    :param worker: only this worker.
    :param client: only this client.
    :param at: the name of a ``snapshot`` step; by default the end of the run.
    """
    look = look_called(history, at or "end")
    if look is None:
        return no_look(history, at or "end")
    wanted = {f"worker:{worker}"} if worker else set()
    wanted |= {f"client:{client}"} if client else set()
    counted: Counter[str] = Counter()
    for each in look.attrs.get("clients") or ():
        if not wanted or each["process"] in wanted:
            counted[each["process"]] += each.get("channels", 0)
    if not counted:
        return view.inconclusive(f"{' and '.join(sorted(wanted)) or 'nobody'} was not connected then", look)
    most = counted.most_common(1)[0][1]
    told = f"{view.at(history, look)}: " + ", ".join(f"{who} {count}" for who, count in sorted(counted.items()))
    if most > max:
        return Finding("violated", f"subscribed to more than {max} channels at {told}", most, (look,))
    return Finding("holds", f"subscribed to at most {max} channels at {told}", most)
