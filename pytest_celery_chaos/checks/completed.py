"""Tasks that must come to their end, and by when."""

from __future__ import annotations

from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, StepRef, TaskRef

_KINDS: dict[str, tuple[str, ...]] = {"SUCCESS": ("succeeded",), "FAILURE": ("failed",), "REVOKED": ("revoked",)}
_KINDS["any"] = tuple(kind for kinds in _KINDS.values() for kind in kinds)
_STORED = {state: (state,) if state != "any" else ("SUCCESS", "FAILURE", "REVOKED") for state in _KINDS}


def completed(
    history: History,
    *,
    task: TaskRef,
    within: Duration | None = None,
    since: StepRef | None = None,
    state: Literal["SUCCESS", "FAILURE", "REVOKED", "any"] = "SUCCESS",
) -> Finding:
    """Every one of these tasks must end in the wanted state, in time.

    Judged by what the workers recorded, not by the result backend, where a revoked task that ran again can still
    say REVOKED. Publishes that failed, or that nobody can tell of and that never arrived, are not counted.

    *seen*: how many did not.

    :param within: seconds from *since*; None: before the run ended.
    :param since: a step, from when it was done (a fault: applied); by default each task's own publish, once answered.
    :param state: the state to end in; ``any`` takes SUCCESS, FAILURE and REVOKED. What expired is REVOKED, too.
    """
    ids = view.delivered(history, task)
    if not ids:
        return view.nothing_called(history, task)
    begin = view.step_time(history, since) if since else None
    if since and begin is None:
        return view.inconclusive(f"step {since!r}, from which the time counts, was never done")
    late: list[tuple[str, Event | None]] = []
    slowest = 0.0
    for one in ids:
        events = history.by_task[one]
        start = begin or view.first(events, "publish", "ok") or events[0]
        end = next((e for e in events if _reached(e, state)), None)
        took = (end.t - start.t) / 1e9 if end else None
        if took is None or (within is not None and took > within):
            late.append((one, end))
        else:
            slowest = max(slowest, took)
    wanted = state if state != "any" else "an end"
    bound = f" within {within:g} s of {since or 'the publish'}" if within is not None else ""
    if late:
        return _violated(history, late, len(ids), f"{wanted}{bound}")
    return Finding(
        "holds", f"{view.plural(len(ids), 'task')} reached {wanted}{bound}; the slowest took {slowest:.3f} s", 0
    )


def _reached(event: Event, state: str) -> bool:
    # A process killed once it had stored the result never says `succeeded`.
    stored = event.kind == "store" and event.phase == "ok" and event.attrs.get("state") in _STORED[state]
    return stored or event.kind in _KINDS[state]


def _violated(history: History, late: list[tuple[str, Event | None]], total: int, wanted: str) -> Finding:
    one, end = late[0]
    events = tuple(e for e in history.by_task[one] if e.kind not in ("held", "released"))[-6:]
    how = f"came at {view.at(history, end)}" if end else f"never did; last: {view.story(history, events, 3)}"
    why = f"{len(late)} of {total} did not reach {wanted}; {view.first_of([each for each, _ in late])} {how}"
    return Finding("violated", why, len(late), events)


def result_state(
    history: History,
    *,
    task: TaskRef,
    state: Literal["SUCCESS", "FAILURE", "REVOKED", "RETRY", "STARTED", "PENDING"],
    look: StepRef | None = None,
) -> Finding:
    """What the result backend says of these tasks must be this state.

    That is what `AsyncResult.state` shows a user, and not what has happened: for that there is `completed`. PENDING is
    what it says of a task that it knows nothing of.

    *seen*: of how many tasks it says something else. Inconclusive where nobody looked at the results.

    :param look: a ``snapshot`` step; None: the last look.
    """
    if not (ids := view.delivered(history, task)):
        return view.nothing_called(history, task)
    looks = [e for e in history.of("snapshot") if look is None or e.attrs.get("name") == look]
    keys = next(filter(None, map(view.keys_of, reversed(looks))), None)
    if keys is None or "results" not in keys.event.attrs:
        return view.inconclusive("nobody looked at the results")
    others = {one: keys.results.get(one, "PENDING") for one in ids if keys.results.get(one, "PENDING") != state}
    if others:
        one = next(iter(others))
        events = tuple(e for e in history.by_task[one] if e.kind == "store" and e.phase == "ok")
        why = f"{len(others)} of {len(ids)} not {state}: {view.first_of(list(others))} is {others[one]} at "
        why += (
            f"{view.at(history, keys.event)}; stored: {', '.join(str(e.attrs.get('state')) for e in events) or 'never'}"
        )
        return Finding("violated", why, len(others), (*events[-6:], keys.event))
    return Finding("holds", f"{view.plural(len(ids), 'task')} {state} at {view.at(history, keys.event)}", 0)
