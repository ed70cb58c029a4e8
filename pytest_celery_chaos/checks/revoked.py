"""Revoked tasks stay revoked."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef


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
        why += f"{view.at(history, first)}, though {view.told(history, since)}"
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
