"""How many messages a worker holds, and may hold: its prefetch limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import WorkerRef


@dataclass(frozen=True)
class _Life:
    """One life of one worker's main process, and its limit as configured; 0: there is none."""

    ready: Event
    limit: int


def prefetched(history: History, *, worker: WorkerRef | None = None, max: int | None = None) -> Finding:
    """No worker may hold more unacknowledged messages at once than its prefetch limit.

    The limit is concurrency times ``worker_prefetch_multiplier``, as the worker reports both. Messages with an ETA
    are held beside it until their time has come, and count here all the same.

    *seen*: the most that one worker held at once. Inconclusive where no worker received anything, or has no limit.

    :param worker: only this worker.
    :param max: so many at most, instead of the limit.
    """
    most: tuple[int, Event, int] | None = None
    over: tuple[int, Event, int] | None = None
    for life in _lives(history, worker):
        limit = max if max is not None else life.limit
        count, last = _most_held(history, life)
        if last is not None and limit:
            found = count, last, limit
            most = found if most is None or count > most[0] else most
            if count > limit and (over is None or count > over[0]):
                over = found
    if over is not None:
        count, last, limit = over
        why = f"{last.source} held {count} messages at {view.at(history, last)}, more than {limit}"
        return Finding("violated", why, count, (last,))
    if most is None:
        return view.inconclusive("no worker that has a prefetch limit received anything")
    count, last, limit = most
    return Finding("holds", f"{last.source} held {count} messages at most, of {limit} that it may hold", count)


def prefetch_limit(history: History, *, worker: WorkerRef | None = None) -> Finding:
    """A worker's prefetch limit must be, in the end, what it is configured to be.

    Celery lowers it for the time after a reconnect while tasks still run, and raises it for each message with an
    ETA; both are to be undone.

    *seen*: the limit of the first worker where it is another. Inconclusive where no worker that lives set any.

    :param worker: only this worker.
    """
    told = []
    for life in _lives(history, worker):
        changes = [e for e in history.of("prefetch", source=life.ready.source) if e.pid == life.ready.pid]
        gone = view.gone_after(history, life.ready.source, life.ready.t)
        if not changes or (gone is not None and not view.at_the_end(history, gone)):
            continue
        last = changes[-1]
        if last.attrs.get("count") != life.limit:
            why = f"{last.source} may hold {last.attrs.get('count')} messages since {view.at(history, last)}, "
            return Finding("violated", f"{why}not {life.limit}", last.attrs.get("count"), tuple(changes[-6:]))
        values = {e.attrs.get("count") for e in changes}
        how = f"again since {view.at(history, last)}" if len(values) > 1 else f"all the time, set {len(changes)} times"
        told.append(f"{last.source} {life.limit} {how}")
    if not told:
        return view.inconclusive("no worker that lived on set a prefetch limit")
    return Finding("holds", "; ".join(told), 0)


def _lives(history: History, worker: str | None) -> Iterator[_Life]:
    for ready in history.of("ready"):
        if worker in (None, ready.name):
            settings = ready.attrs.get("settings") or {}
            multiplier = settings.get("worker_prefetch_multiplier")
            limit = (ready.attrs.get("concurrency") or 0) * (4 if multiplier is None else multiplier)
            yield _Life(ready, int(limit))


def _most_held(history: History, life: _Life) -> tuple[int, Event | None]:
    """The most messages that the process held at once, and the last that made it so many."""
    moves = sorted(
        (e for kind in ("received", "ack", "reject", "restore") for e in history.of(kind, source=life.ready.source)),
        key=lambda e: (e.t, e.n),
    )
    held: set[str] = set()
    most = 0
    at: Event | None = None
    for event in moves:
        tag = str(event.attrs.get("tag"))
        if event.kind == "received" and event.pid == life.ready.pid:
            held.add(tag)
            if len(held) > most:
                most, at = len(held), event
        elif event.pid == life.ready.pid and event.phase == "ok" and event.attrs.get("reason") != "sweep":
            held.discard(tag)
    return most, at
