"""Tasks that must start one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef


def started_in_order(history: History, *, tasks: Sequence[TaskRef]) -> Finding:
    """All of the first of these tasks must start before any of the second, and so on: by priority, by age.

    Only where one process takes them one at a time is there an order to speak of. The first start of each message
    counts, whatever became of it.

    *seen*: how many messages started before one that was to start before them. Inconclusive where a name's tasks
    never started.

    :param tasks: two names or more, the first to be started first.
    """
    if len(tasks) < 2:
        raise UsageError("started_in_order: one task has no order", hint="name two or more")
    starts: list[tuple[int, Event]] = []
    for rank, task in enumerate(tasks):
        theirs = [view.first(history.by_task[one], "started") for one in history.ids(task)]
        found = [(rank, event) for event in theirs if event is not None]
        if not found:
            return view.inconclusive(f"no task of {task!r} ever started")
        starts += found
    starts.sort(key=lambda each: (each[1].t, each[1].n))
    early: list[int] = []
    first = len(tasks)  # the first rank of all that start later
    for index in range(len(starts) - 1, -1, -1):
        early += [index] if starts[index][0] > first else []
        first = min(first, starts[index][0])
    if early:
        index = early[-1]
        rank, event = starts[index]
        over = next(other for another, other in starts[index + 1 :] if another < rank)
        why = f"{len(early)} of {len(starts)} started too early; {event.task} of {tasks[rank]!r} at "
        why += f"{view.at(history, event)}, before {over.task} at {view.at(history, over)}"
        return Finding("violated", why, len(early), (event, over))
    return Finding("holds", f"{view.plural(len(starts), 'task')} started in the order {', '.join(tasks)}", 0)
