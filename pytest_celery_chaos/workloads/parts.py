"""What groups, chords and chains are made of, as values; and as the client process is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import Count, TaskName

_ONE_OF = "give exactly one of: "


@dataclass(frozen=True)
class Task:
    """One task.

    :param task: its name.
    :param args: positional arguments.
    :param kwargs: keyword arguments.
    :param options: options of ``apply_async``, as Celery takes them (seconds are plain numbers).
    :param immutable: it is not given the results of what went before it.
    """

    task: TaskName
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False


@dataclass(frozen=True)
class Part:
    """A task, or a group or a chain in its place. Exactly one of *task*, *group* and *chain*.

    :param task: a task's name.
    :param args: its positional arguments.
    :param kwargs: its keyword arguments.
    :param options: its options of ``apply_async``, as Celery takes them (seconds are plain numbers).
    :param immutable: it is not given the results of what went before it.
    :param group: the tasks of a group.
    :param chain: the tasks of a chain.
    """

    task: TaskName | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False
    group: Sequence[TaskName | Task] | None = None
    chain: Sequence[TaskName | Task] | None = None


@dataclass(frozen=True)
class Many:
    """Many parts of one task. Exactly one of *times*, *numbered* and *each*.

    :param task: the task's name.
    :param times: so many parts, all alike.
    :param numbered: so many parts, each given its number (from 0) before *args*.
    :param each: a part for each of these, given it before *args*: a list as several arguments, else as one.
    :param args: positional arguments of all.
    :param kwargs: keyword arguments of all.
    :param options: options of ``apply_async`` for all, as Celery takes them (seconds are plain numbers).
    """

    task: TaskName
    times: Count | None = None
    numbered: Count | None = None
    each: Sequence[Any] | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


#: The parts of a group, or of a chord's header: a list of them, or many of one task.
Parts = Sequence[TaskName | Part] | Many


def told(parts: Parts | Sequence[TaskName | Task] | TaskName | Part | Task) -> dict[str, Any]:
    """*parts* as the client process is told of them.

    :raises UsageError: a part is several things at once, or nothing; there are no parts.
    """
    if isinstance(parts, str):
        return {"task": parts}
    if isinstance(parts, Many):
        return _many(parts)
    if isinstance(parts, Task | Part):
        return _part(parts)
    if not parts:
        raise UsageError("no parts are given", hint="list at least one task")
    return {"list": [told(each) for each in parts]}


def size(order: Mapping[str, Any]) -> int:
    """How many tasks there are in what :func:`told` says."""
    for inside in ("list", "group", "chain"):
        if inside in order:
            return sum(map(size, order[inside]))
    if "each" in order:
        return len(order["each"])
    return int(order.get("times") or order.get("numbered") or 1)


def name_of(order: Mapping[str, Any]) -> str:
    """The name of the first task in what :func:`told` says."""
    for inside in ("list", "group", "chain"):
        if inside in order:
            return name_of(order[inside][0])
    return str(order["task"])


def _part(part: Task | Part) -> dict[str, Any]:
    order: dict[str, Any] = {"args": list(part.args), "kwargs": dict(part.kwargs), "options": dict(part.options)}
    order["immutable"] = part.immutable
    group, chain = (part.group, part.chain) if isinstance(part, Part) else (None, None)
    kinds = [name for name, value in (("task", part.task), ("group", group), ("chain", chain)) if value is not None]
    if len(kinds) != 1:
        raise UsageError(f"a part is {' and '.join(kinds) or 'nothing'}", hint=f"{_ONE_OF}task, group, chain")
    if part.task is not None:
        return {"task": part.task, **order}
    inside = told(group if group is not None else chain or ())
    return {kinds[0]: inside["list"], "options": order["options"]}


def _many(many: Many) -> dict[str, Any]:
    ways = {"times": many.times, "numbered": many.numbered, "each": many.each}
    given = {name: value for name, value in ways.items() if value is not None}
    if len(given) != 1:
        what = f"the parts of {many.task!r} are given by {' and '.join(given) or 'nothing'}"
        raise UsageError(what, hint=f"{_ONE_OF}times, numbered, each")
    if given.get("each") == []:
        raise UsageError(f"no parts of {many.task!r} are given", hint="list at least one under each")
    shared = {"args": list(many.args), "kwargs": dict(many.kwargs), "options": dict(many.options)}
    return {"task": many.task, **given, **shared}
