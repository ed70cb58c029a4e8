"""How often tasks are published."""

from __future__ import annotations

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef


def published(
    history: History,
    *,
    task: TaskRef,
    max: int | None = None,
    min: int | None = None,
    exactly: int | None = None,
) -> Finding:
    """Each of these tasks must be published so many times; exactly once where nothing is said.

    A publish counts that the broker has answered, or whose message arrived though nobody saw the answer. A retry of
    Celery's, which publishes its own id again, does not.

    *seen*: the largest number of publishes of one task where that is too many, else the smallest. Inconclusive where
    nobody so much as tried, or nobody looked at the keys after a publish of which nobody knows.

    :param max: at most so often.
    :param min: at least so often.
    :param exactly: so often; not together with the others.
    """
    if exactly is not None and (max is not None or min is not None):
        raise UsageError("published: exactly goes alone", hint="give exactly, or min and max")
    least, most = (exactly, exactly) if exactly is not None else (min, max)
    if least is None and most is None:
        least = most = 1
    keys = view.last_keys(history)
    counts: dict[str, int] = {}
    for one in history.ids(task):
        own = [e for e in history.by_task[one] if e.kind == "publish" and not e.attrs.get("retries")]
        if not own:
            continue
        answered, begun = (sum(e.phase in phases for e in own) for phases in (("ok", "fail"), ("invoke",)))
        counts[one] = sum(e.phase == "ok" for e in own)
        if begun > answered:
            if _arrived(history, one, keys):
                counts[one] += 1 if counts[one] == 0 else 0
            elif keys is None or keys.event.t < own[-1].t:
                return view.inconclusive(f"nobody can tell whether it arrived: {view.told(history, own[-1])}", own[-1])
    if not counts:
        return view.nothing_called(history, task)
    often = sorted(counts.items(), key=lambda each: each[1])
    for (one, count), wrong, how in (
        (often[-1], most is not None and often[-1][1] > most, f"more often than {most}"),
        (often[0], least is not None and often[0][1] < least, f"less often than {least}"),
    ):
        if wrong:
            evidence = tuple(e for e in history.by_task[one] if e.kind == "publish")
            why = f"{one} was published {view.often(count)}, {how}: {view.story(history, evidence)}"
            return Finding("violated", why, count, evidence)
    told = view.often(often[0][1]) if often[0][1] == often[-1][1] else f"{often[0][1]} to {often[-1][1]} times"
    return Finding("holds", f"{view.plural(len(counts), 'task')} published {told}", often[-1][1])


def _arrived(history: History, task: str, keys: view.Keys | None) -> bool:
    if keys is not None and task in keys.kept:
        return True
    return any(event.kind in ("popped", "received", "started") for event in history.by_task[task])
