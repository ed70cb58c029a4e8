"""Messages that come round and round: redelivered, requeued or rejected without an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Count, TaskRef

_EVENT = {"deliveries": "received", "executions": "started"}


def loop(
    history: History, *, task: TaskRef, of: Literal["deliveries", "executions"] = "deliveries", max: Count = 2
) -> Finding:
    """No message may come round again and again: one redelivery is none, more of them are.

    Counted for each delivery tag, which all copies of one message share; Celery's own retry is a message of its
    own. Meant for a run with ``observe:``, since a loop never falls quiet.

    *seen*: how often the worst message was received (or started), where that is too often. Inconclusive where
    nothing was received, or a message had not been settled in the end and could still have come round.

    :param of: what is counted: ``deliveries`` (receipts by a worker) or ``executions`` (starts of the task's body).
    :param max: so often is allowed.
    """
    ids = view.delivered(history, task)
    if not ids:
        return view.nothing_called(history, task)
    rounds: dict[tuple[str, str], list[Event]] = {}
    for one in ids:
        for event in history.by_task[one]:
            if event.kind == _EVENT[of]:
                rounds.setdefault((one, str(event.attrs.get("tag"))), []).append(event)
    if not rounds:
        return view.inconclusive(f"none of {view.plural(len(ids), 'message')} was ever {_EVENT[of]}")
    worst = sorted(rounds, key=lambda key: len(rounds[key]))[-1]
    if len(rounds[worst]) > max:
        return _looping(history, rounds, worst, of, max)
    unsettled = [one for one, tag in rounds if not _settled(history, one, tag)]
    if unsettled:
        return view.inconclusive(f"{unsettled[0]} had not been settled in the end: it could still have come round")
    most = view.often(len(rounds[worst]))
    return Finding("holds", f"{view.plural(len(rounds), 'message')}, {_EVENT[of]} {most} at most", len(rounds[worst]))


def _looping(
    history: History, rounds: Mapping[tuple[str, str], Sequence[Event]], worst: tuple[str, str], of: str, most: int
) -> Finding:
    one, tag = worst
    events = rounds[worst]
    many = sum(len(each) > most for each in rounds.values())
    gaps = [(b.t - a.t) / 1e9 for a, b in pairwise(events)]
    done = _settled(history, one, tag)
    if done is not None:
        now = f"it ended: {view.told(history, done)}"
    else:
        now = f"and it still went on: not settled when the run was over, at {view.at(history, history.end)}"
    why = f"{many} of {view.plural(len(rounds), 'message')} came round more than {view.often(most)}; {one} "
    why += f"{_EVENT[of]} {view.often(len(events))}, every {min(gaps):.3f} to {max(gaps):.3f} s; {now}"
    return Finding("violated", why, len(events), (*events[:6], *events[6:][-6:]))


def _settled(history: History, task: str, tag: str) -> Event | None:
    """The acknowledgement (or rejection for good) after the last receipt."""
    last: Event | None = None
    for event in history.by_task[task]:
        if str(event.attrs.get("tag")) != tag:
            continue
        if event.kind == "received":
            last = None
        elif event.kind in ("ack", "reject") and event.phase == "ok" and not event.attrs.get("requeue"):
            last = event
    return last
