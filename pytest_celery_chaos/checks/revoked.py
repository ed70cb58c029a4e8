"""Revoked tasks stay revoked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef, WorkerRef


def never_started(history: History, *, task: TaskRef) -> Finding:
    """A task must not start once its revoke is known.

    Known is a revoke when every worker that was there has taken it in; a worker that was started later counts all
    the same, and must not run the task. Holds only where a worker was seen to discard the task: one that still
    waits, or was lost, was not put to the test.

    *seen*: how many times the tasks were started after that.
    """
    ids = view.delivered(history, task)
    if not ids:
        return view.nothing_called(history, task)
    heard, sent = _by_task(history.of("revoke", "ok")), _by_task(history.of("control", "ok"))
    known = {one: _known(history, heard.get(one, ()), sent.get(one, ())) for one in ids}
    late = [
        start
        for one, since in known.items()
        for start in history.by_task[one]
        if since is not None and start.kind == "started" and start.t > since.t
    ]
    if late:
        first = late[0]
        since = known[str(first.task)]
        assert since is not None
        why = f"{view.plural(len(late), 'start')} after the revoke: {first.task} by {first.source} at "
        why += f"{view.at(history, first)}, though {view.told(history, since)}{_why(history, first, since)}"
        return Finding("violated", why, len(late), (since, *late))
    for one, since in known.items():
        if since is None:
            return view.inconclusive(f"{one} was never revoked")
        if not any(_discarded(event, since) for event in history.by_task[one]):
            last = view.story(history, history.by_task[one], 1)
            return view.inconclusive(
                f"no worker came to discard {one}, revoked at {view.at(history, since)}; last: {last}"
            )
    return Finding("holds", f"{view.plural(len(ids), 'task')} discarded, none started after the revoke", 0)


def revoked_known(history: History, *, task: TaskRef, worker: WorkerRef | None = None) -> Finding:
    """A worker that starts must know at once what was revoked before: from its state, or from its neighbours (mingle).

    Judged by what each worker reports when it becomes ready, if that is after the revoke was known to all who were
    there, or sent where nobody was.

    *seen*: how many times a worker became ready without knowing of one of these. Inconclusive where none became ready
    after the revoke.

    :param worker: only this one; None: every worker.
    """
    ids = view.delivered(history, task)
    if not ids:
        return view.nothing_called(history, task)
    heard, sent = _by_task(history.of("revoke", "ok")), _by_task(history.of("control", "ok"))
    judged, missing, doubts = 0, list[tuple[str, Event, Event]](), list[str]()
    for one in ids:
        since = _known(history, heard.get(one, ()), sent.get(one, ()))
        if since is None:
            return view.inconclusive(f"{one} was never revoked")
        for ready in history.of("ready"):
            if ready.t > since.t and (worker is None or ready.name == worker):
                known = _knows(ready, one)
                judged += known is not None
                if known is False:
                    missing.append((one, ready, since))
                elif known is None:
                    doubts.append(f"{ready.source} knew of too many revokes to tell, or did not say of which")
    if missing:
        one, ready, since = missing[0]
        why = f"{len(missing)} of {judged}: {ready.source} was ready at {view.at(history, ready)} and did not know of "
        why += f"{one}, though {view.told(history, since)}; {_state(history, ready)}"
        return Finding("violated", why, len(missing), (since, ready))
    if doubts or not judged:
        return view.inconclusive(doubts[0] if doubts else "no worker became ready after the revoke")
    return Finding("holds", f"known at {view.plural(judged, 'start')}", 0)


def _knows(ready: Event, one: str) -> bool | None:
    """Whether a worker knew of a revoke when it became ready; None: that cannot be told."""
    told = ready.attrs.get("revoked")
    if not isinstance(told, Mapping):
        return None
    return True if one in told["ids"] else None if told["count"] > len(told["ids"]) else False


def _why(history: History, start: Event, since: Event) -> str:
    """What is known of why a worker ran a task after its revoke; nothing, where it had been there all the time."""
    lives = [e for e in history.of("ready", source=start.source) if since.t < e.t <= start.t]
    return f"; {start.source} was ready at {view.at(history, lives[-1])}, {_state(history, lives[-1])}" if lives else ""


def _state(history: History, ready: Event) -> str:
    """Where a worker that became ready had its knowledge of revokes from, in words."""
    loads = [e for e in history.of("revoked_loaded", source=ready.source) if e.pid == ready.pid and e.phase != "invoke"]
    if not loads:
        return "without any state of its own"
    load = loads[-1]
    if load.phase == "fail":
        return f"its state ({load.attrs.get('store')}) could not be read: {load.attrs.get('error')}"
    count = load.attrs.get("ids_in_all", len(load.attrs.get("ids", ())))
    told = f"its state ({load.attrs.get('store')}) named {view.plural(count, 'id')}"
    gone = [e for e in history.of("offline", source=ready.source) if e.t < ready.t]
    saves = [e for e in history.of("revoked_saved", source=ready.source) if e.t < load.t and e.phase != "invoke"]
    if gone and not any(e.pid == gone[-1].attrs.get("ended") for e in saves):
        return f"{told}: it had ended with {view.how_it_ended(gone[-1])} and saved nothing"
    if gone and saves[-1].phase == "fail":
        return f"{told}: it could not be saved, {saves[-1].attrs.get('error')}"
    return told


def _discarded(event: Event, since: Event) -> bool:
    return event.kind == "revoked" and event.t > since.t and event.attrs.get("reason") != "expired"


def _by_task(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Events that speak of several ids, by id."""
    index: dict[str, list[Event]] = {}
    for event in events:
        for one in event.attrs.get("ids", ()):
            index.setdefault(one, []).append(event)
    return index


def _known(history: History, heard: Sequence[Event], sent: Sequence[Event]) -> Event | None:
    """The event by which every worker that was there knew of a revoke; None: there was none."""
    if not heard:
        return next((e for e in sent if e.attrs.get("command") in ("revoke", "terminate")), None)
    firsts: dict[str, Event] = {}
    for event in heard:
        firsts.setdefault(event.source, event)
    begun = heard[0].t
    there = [e for e in firsts.values() if any(r.source == e.source and r.t <= begun for r in history.of("ready"))]
    return max(there or firsts.values(), key=lambda event: event.t)
