"""Node names: what a worker is called by remote control, and its state is kept under."""

from __future__ import annotations

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import WorkerRef

#: Celery's only warning about it (``celery.app.control.flatten_reply``).
WARNING = "DuplicateNodenameWarning"


def unique_nodenames(history: History) -> Finding:
    """No two workers that live at the same time may bear one node name (``--hostname``).

    Two of one name answer every command twice, take each other's greeting for an echo (mingle), and write the same
    keys where their state is kept by name.

    *seen*: the largest number of workers of one name at once. Inconclusive where no two workers were there at once.
    """
    most = _most_at_once(history)
    if most:
        name = most[0].attrs.get("hostname")
        who = ", ".join(f"{e.source} (since {view.at(history, e)})" for e in most)
        return Finding("violated", f"{len(most)} workers called {name} at once: {who}", len(most), tuple(most))
    if not any(_others(history, ready) for ready in history.of("ready")):
        return view.inconclusive("no two workers were there at once")
    return Finding("holds", f"{view.plural(len(history.of('ready')), 'worker')}, each with a name of its own", 1)


def duplicates_warned(history: History, *, worker: WorkerRef | None = None) -> Finding:
    """Where two workers bear one node name at the same time, Celery must warn of it (DuplicateNodenameWarning).

    It does so where it gets two replies from one name: in a client that asks (``inspect``), and in a worker that
    greets its neighbours when it starts (mingle).

    *seen*: how many warnings there were. Inconclusive where no two workers had one name.

    :param worker: the warning must come in this worker; None: anywhere.
    """
    most = _most_at_once(history)
    if not most:
        return view.inconclusive("no two workers had one node name at once")
    since = most[-1].t if worker is None else most[0].t
    warned = [
        e
        for e in history.of("warned")
        if e.attrs.get("category") == WARNING and e.t >= since and (worker is None or e.source == f"worker:{worker}")
    ]
    place = f"worker:{worker}" if worker else "anybody"
    if not warned:
        why = f"{len(most)} workers called {most[0].attrs.get('hostname')} at once, and {place} was not warned"
        return Finding("violated", why, 0, tuple(most))
    return Finding("holds", f"{view.told(history, warned[0])}: {WARNING}", len(warned), tuple(warned))


def _others(history: History, ready: Event) -> list[Event]:
    """The workers, by their last `ready`, that lived when this one became ready."""
    last = {e.source: e for e in history.of("ready") if e.t < ready.t and e.source != ready.source}
    return [e for e in last.values() if view.alive_at(history, e.source, e.t, ready.t)]


def _most_at_once(history: History) -> list[Event]:
    """The largest group of workers of one name that lived at once, oldest first; empty where each was alone."""
    groups = [
        [*(e for e in _others(history, ready) if e.attrs.get("hostname") == ready.attrs.get("hostname")), ready]
        for ready in history.of("ready")
    ]
    return max((group for group in groups if len(group) > 1), key=len, default=[])
