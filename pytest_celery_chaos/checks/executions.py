"""How often a task ran, and how many copies of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef

#: When each process, by source and pid, began: once a life.
_Begins: TypeAlias = dict[tuple[str, int], list[int]]


def executions(
    history: History,
    *,
    task: TaskRef,
    max: int | None = None,
    min: int | None = None,
    exactly: int | None = None,
) -> Finding:
    """Each of these tasks must have been started so many times; exactly once where nothing is said.

    Every start of the task's body counts, those of Celery's own retries too.

    *seen*: the largest number of starts of one task where that is too many, else the smallest. With *max* alone, a
    history without any start is inconclusive: it shows no more than that nothing ran.

    :param max: at most so often.
    :param min: at least so often.
    :param exactly: so often; not together with the others.
    """
    if exactly is not None and (max is not None or min is not None):
        raise UsageError("executions: 'exactly' goes without 'max' and 'min'", hint="give one or the other")
    if max is None and min is None and exactly is None:
        exactly = 1
    low, high = (exactly, exactly) if exactly is not None else (min, max)
    ids = view.delivered(history, task)
    if not ids:
        return view.nothing_called(history, task)
    starts = {one: [e for e in history.by_task[one] if e.kind == "started"] for one in ids}
    counts = sorted(len(each) for each in starts.values())
    if not counts[-1] and not low and high != 0:
        return view.inconclusive(f"none of {view.plural(len(ids), 'task')} ever started, so none could start too often")
    if high is not None and counts[-1] > high:
        return _too_many(history, starts, counts[-1], high)
    if low is not None and counts[0] < low:
        worst = [one for one in ids if len(starts[one]) < low]
        why = f"{len(worst)} of {len(ids)} started less often than {low}; {view.first_of(worst)}: "
        events = tuple(history.by_task[worst[0]])
        why += f"{view.often(len(starts[worst[0]]))}; last: {view.story(history, events, 3)}"
        return Finding("violated", why, counts[0], events)
    spread = view.often(counts[-1]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} times"
    return Finding("holds", f"{view.plural(len(ids), 'task')} started {spread}", counts[-1])


def _too_many(history: History, starts: dict[str, list[Event]], seen: int, most: int) -> Finding:
    worst = [one for one, each in starts.items() if len(each) > most]
    one = next(each for each in worst if len(starts[each]) == seen)
    events = starts[one]
    why = f"{len(worst)} of {len(starts)} started more often than {most}; {one} {view.often(seen)}: "
    flagged = sum(bool(e.attrs.get("redelivered")) for e in events)
    note = f" ({flagged} of them redelivered)"
    if not flagged and len({e.source for e in events}) == 1 and not any(e.attrs.get("retries") for e in events):
        # Measured: the parent had not read the accept of a killed child, and gives the job to the next one.
        note = " (none redelivered: the pool was given the same delivery again, as after the loss of a child)"
    return Finding("violated", why + view.story(history, events) + note, seen, tuple(events))


def overlap(history: History, *, task: TaskRef | None = None, max: int = 1) -> Finding:
    """Never may more than so many copies of one task run at the same time.

    A copy runs from its start until it returns or raises, or its process is gone.

    *seen*: the largest number of copies of one task at once. Inconclusive where nothing ran.

    :param task: only these; by default every task of the run.
    :param max: so many copies of one task may run at once.
    """
    begins: _Begins = {}
    for hello in history.by_kind.get("hello", ()):
        begins.setdefault((hello.source, hello.pid), []).append(hello.t)
    ran = {one: _most_at_once(history, history.by_task[one], begins) for one in history.ids(task)}
    ran = {one: found for one, found in ran.items() if found[0]}
    if not ran:
        return view.inconclusive("none of the tasks ever started")
    seen = sorted(count for count, _ in ran.values())[-1]
    if seen > max:
        worst = [one for one, (count, _) in ran.items() if count > max]
        one = next(each for each in worst if ran[each][0] == seen)
        running = ran[one][1]
        why = f"{len(worst)} of {len(ran)} ran in more than {max} at once; {one} in {seen} copies: "
        return Finding("violated", why + view.story(history, running), seen, tuple(running))
    return Finding("holds", f"{view.plural(len(ran), 'task')} ran, none in more than {seen} at once", seen)


def _most_at_once(history: History, events: Sequence[Event], begins: _Begins) -> tuple[int, list[Event]]:
    """The largest number of copies that ran at once, and their starts."""
    ends = [e for e in events if e.kind in ("returned", "raised")]
    runs: list[tuple[Event, float]] = []
    for start in (e for e in events if e.kind == "started"):
        # Copies of one message share id and tag: which one returned does not matter, as long as it is one of them.
        mine = next((e for e in ends if e.t >= start.t and _same_life(begins, start, e)), None)
        if mine is not None:
            ends.remove(mine)
        runs.append((start, mine.t if mine else _process_end(history, start)))
    most: list[Event] = []
    for at, _ in runs:
        running = [start for start, end in runs if start.t <= at.t < end or start is at]
        most = running if len(running) > len(most) else most
    return len(most), most


def _same_life(begins: _Begins, start: Event, end: Event) -> bool:
    """Whether both come from one process, which did not begin anew in between under the same number."""
    if (start.source, start.pid) != (end.source, end.pid):
        return False
    return not any(start.t < begin < end.t for begin in begins.get((start.source, start.pid), ()))


def _process_end(history: History, start: Event) -> float:
    """When the process that never returned was gone."""
    child, worker = view.lost_child(history, start), view.gone_after(history, start.source, start.t)
    ends = [child.t] if child else []
    ends += [view.ended_at(worker)] if worker else []
    return min(ends, default=float("inf"))
