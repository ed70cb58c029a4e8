"""Groups and chords: results in the order of definition, none missing, none twice; a chord's body exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.delivery import held_by_living_worker
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.labels import is_part
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef


@dataclass(frozen=True)
class _Group:
    """A group, or the header of a chord.

    :param parts: ids of its tasks in the order of definition.
    :param own: by id, the digests of what the task itself returned: of several runs several.
    """

    id: str
    parts: Sequence[str]
    own: Mapping[str, frozenset[str]]

    @property
    def told_apart(self) -> bool:
        """Whether an order can be seen at all: not all results are alike."""
        return len({digest for digests in self.own.values() for digest in digests}) > 1


@dataclass(frozen=True)
class _Reading:
    """One list of results that somebody was given: a client that joined the group, or the body of the chord."""

    event: Event
    got: Sequence[str]
    count: int

    @property
    def who(self) -> str:
        return "the body" if self.event.kind == "chord" else self.event.source


def ordered(history: History, *, task: TaskRef) -> Finding:
    """The results of a group or chord must come in the order in which its tasks were defined, each once, none missing.

    Held against each other are what every task returned in its worker, and the list that a client was given
    (``GroupResult.get``, of a group) or that the body was given (of a chord). Order is that of the ids of a scenario's
    own parts, else that of the members' numbers in Celery's messages.

    *seen*: how many results are not in their place, or too few, or too many, in the worst list. Inconclusive where no
    list was given to anybody, or all results are alike.

    :param task: the step that published it, the group's id or result, or that of the chord's body.
    """
    worst: tuple[int, str, _Reading] | None = None
    lists = 0
    doubt = f"no group called {task!r} was published"
    groups = _groups(history, task)
    for group in groups:
        readings = _readings(history, group.id)
        if not readings:
            doubt = f"no results of the {view.plural(len(group.parts), 'task')} were given to anybody"
            continue
        if len(group.own) < 2 or not group.told_apart:
            doubt = "the tasks have not returned results that can be told apart: let each return one of its own"
            continue
        for reading in readings:
            lists += 1
            wrong, how = _misplaced(group, reading)
            if worst is None or wrong > worst[0]:
                worst = wrong, how, reading
    if worst is None:
        return view.inconclusive(doubt)
    wrong, how, reading = worst
    if wrong:
        why = f"{reading.who} at {view.at(history, reading.event)} was given {how}"
        return Finding("violated", why, wrong, (reading.event,))
    unknown = sum(len(group.parts) - len(group.own) for group in groups)
    more = f"; what {view.plural(unknown, 'task')} returned is not known" if unknown else ""
    return Finding(
        "holds", f"{view.plural(lists, 'list')} of results in the order of definition, none missing{more}", 0
    )


def body_once(history: History, *, task: TaskRef, may_fail: bool = False) -> Finding:
    """The body of a chord must be published exactly once, and executed exactly once.

    *seen*: how often it was published or executed, whichever is further from once: 0 where it never was, though every
    part of the header has ended or is gone. Inconclusive where parts still wait or run.

    :param task: the step that published the chord, the id or result of its body, or the id of its group.
    :param may_fail: a body that never runs, and whose stored result says FAILURE, will do: the chord has ended.
    """
    groups = _groups(history, task)
    if not groups:
        return view.inconclusive(f"no chord called {task!r} was published")
    findings = [_body(history, task, group, may_fail) for group in groups]
    order = {"violated": 0, "inconclusive": 1, "holds": 2}
    return min(findings, key=lambda finding: order[finding.outcome])


def _body(history: History, label: str, group: _Group, may_fail: bool) -> Finding:
    dispatched = [event for event in history.of("chord") if event.attrs.get("group") == group.id]
    named = history.ids(f"{label}.body") if label in history.labels else ()
    bodies = list(dict.fromkeys([*(str(event.task) for event in dispatched), *named]))
    counts: list[tuple[int, list[Event]]] = []
    for body in dict.fromkeys(str(event.task) for event in dispatched):
        published = [event for event in dispatched if event.task == body]
        runs = [e for e in history.by_task[body] if e.kind == "started" and not e.attrs.get("retries")]
        counts += [(len(published), published), (len(runs), runs)]
    number, events = max(counts, key=lambda each: abs(each[0] - 1), default=(0, []))
    if number == 1:
        return Finding("holds", f"published and executed once, given {_size(dispatched)}", 1, tuple(dispatched))
    if number > 1:
        how = "published" if events[0].kind == "chord" else "executed"
        return Finding(
            "violated", f"the body was {how} {view.often(number)}: {view.story(history, events)}", number, (*events,)
        )
    failed = [
        e for body in bodies for e in history.by_task[body] if e.kind == "store" and e.attrs.get("state") == "FAILURE"
    ]
    if failed and may_fail:
        return Finding("holds", f"the chord ended in FAILURE: {view.told(history, failed[0])}", 0, (failed[0],))
    if busy := _busy(history, [*group.parts, *bodies]):
        return view.inconclusive(f"the chord was not through: {busy} was still to end")
    handed = history.of("chord_part", "ok")
    parts = len({event.task for event in handed if event.attrs.get("group") == group.id})
    how = "executed, though published" if dispatched else "published"
    why = f"the body was never {how}; {parts} of {len(group.parts)} parts had been handed in"
    why += f"; its result says FAILURE: {view.told(history, failed[0])}" if failed else ""
    return Finding("violated", why, 0, (*dispatched, *failed))


def _groups(history: History, task: str) -> list[_Group]:
    """The groups that *task* means: by the step that published them, by the id of one, or by some of its tasks."""
    ids = set(history.ids(task))
    events = [e for kind in ("publish", "store", "chord_part", "chord") for e in history.by_kind.get(kind, ())]
    ours = [e for e in events if e.task is not None and e.attrs.get("group") is not None]
    meant = {e.attrs["group"] for e in ours if e.task in ids or e.attrs["group"] == task}
    members: dict[str, dict[str, int]] = {}
    own: dict[str, set[str]] = {}
    for event in ours:
        group, one, index = event.attrs["group"], str(event.task), event.attrs.get("index")
        if group not in meant or index is None:  # the body of a chord has its group, and no number in it
            continue
        members.setdefault(group, {}).setdefault(one, index)
        if event.kind != "publish" and event.attrs.get("state") == "SUCCESS" and "digest" in event.attrs:
            own.setdefault(one, set()).add(event.attrs["digest"])
    found = []
    for group, indexes in members.items():
        defined = all(is_part(one) for one in indexes)
        parts = sorted(indexes) if defined else sorted(indexes, key=lambda one: indexes[one])
        found.append(_Group(group, parts, {one: frozenset(own[one]) for one in parts if one in own}))
    return found


def _readings(history: History, group: str) -> list[_Reading]:
    found = []
    for kind, phase, key, size in (("joined", "ok", "got", "results"), ("chord", None, "digests", "count")):
        for event in history.by_kind.get(kind, ()):
            got = event.attrs.get(key)
            if event.attrs.get("group") == group and event.phase == phase and isinstance(got, Sequence):
                found.append(_Reading(event, got, int(event.attrs.get(size, len(got)))))
    return found


def _misplaced(group: _Group, reading: _Reading) -> tuple[int, str]:
    """How many results are not where they should be, and which."""
    missing = len(group.parts) - reading.count
    if missing:
        what = f"{reading.count} results of {len(group.parts)} tasks"
        return abs(missing), what
    wrong = [
        number
        for number, (got, one) in enumerate(zip(reading.got, group.parts, strict=False))
        if one in group.own and got not in group.own[one]
    ]
    named = ", ".join(str(number) for number in wrong[:8]) + (" …" if len(wrong) > 8 else "")
    twice = len(reading.got) - len(set(reading.got)) if len({*group.own.values()}) == len(group.own) else 0
    what = f"results out of place at {named} (from 0) of {len(group.parts)}"
    return len(wrong), what + (f", {twice} of them given before" if twice else "")


def _busy(history: History, tasks: Sequence[str]) -> str | None:
    """A task that still waits in a queue or is in the hands of a living worker."""
    keys = view.last_keys(history)
    now = keys.event.t if keys else history.end
    for one in tasks:
        events = history.by_task.get(one, ())
        if view.ending(events):
            continue
        if (keys is not None and one in keys.kept) or held_by_living_worker(history, events, now):
            return one
    return None


def _size(dispatched: Sequence[Event]) -> str:
    counts = [event.attrs["count"] for event in dispatched if "count" in event.attrs]
    return view.plural(counts[0], "result") if counts else "no results"
