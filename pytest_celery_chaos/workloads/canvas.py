"""Several tasks as one: group, chord, chain, and map with its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_celery_chaos.errors import UsageError, WaitExpired
from pytest_celery_chaos.history.labels import BODY, GROUP, MEMBER, MOST_LINKS, link, part_id
from pytest_celery_chaos.values import ClientRef, Count, Duration, TaskName
from pytest_celery_chaos.workloads.parts import Many, Part, Parts, Task, name_of, size, told

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run

_SHARED = ("args", "kwargs", "options")


def group(
    run: Run,
    *,
    tasks: Sequence[TaskName | Part] | None = None,
    task: TaskName | None = None,
    times: Count | None = None,
    numbered: Count | None = None,
    each: list[Any] | None = None,
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    client: ClientRef | None = None,
    timeout: Duration = 30.0,
) -> None:
    """Publish a group: tasks that run beside each other, and whose results are read together (``get``).

    The step's name stands for all of them, ``NAME.0`` for the first: ids tell the order in which they were given.

    :param tasks: the tasks, by name or in full; or else:
    :param task: one task's name, many times: with exactly one of *times*, *numbered* and *each*.
    :param times: so many, all alike.
    :param numbered: so many, each given its number (from 0) before *args*.
    :param each: one for each of these, given it before *args*: a list as several arguments, else as one.
    :param args: positional arguments of all.
    :param kwargs: keyword arguments of all.
    :param options: options of ``apply_async`` for all, as Celery takes them (seconds are plain numbers).
    :param client: who publishes; by default the first.
    :param timeout: seconds; a publish that blocks longer is left to itself, its outcome unknown.
    """
    many = {"times": times, "numbered": numbered, "each": each, "args": args, "kwargs": kwargs, "options": options}
    _publish(run, "group", _group(tasks, task, **many), client, timeout)


def chord(
    run: Run,
    *,
    header: Parts,
    body: TaskName | Part = "collect",
    client: ClientRef | None = None,
    timeout: Duration = 30.0,
) -> None:
    """Publish a chord: when all tasks of its header have ended, its body is given the list of their results.

    The step's name stands for all of it, ``NAME.header`` and ``NAME.body`` for its halves, ``NAME.header.0`` for the
    first part: ids tell the order in which they were given.

    :param header: the tasks, by name or in full; or many of one task: ``{task: echo, numbered: 10}``.
    :param body: the task that is given the results; the built-in one returns them.
    :param client: who publishes; by default the first.
    :param timeout: seconds; a publish that blocks longer is left to itself, its outcome unknown.
    """
    _publish(run, "chord", _chord(header, body), client, timeout)


def chain(
    run: Run, *, tasks: Sequence[TaskName | Task], client: ClientRef | None = None, timeout: Duration = 30.0
) -> None:
    """Publish a chain: each task is published when the one before has ended, and is given its result.

    The step's name stands for all of it, ``NAME.link0`` for the first task.

    :param tasks: the tasks, by name or in full.
    :param client: who publishes; by default the first.
    :param timeout: seconds; a publish that blocks longer is left to itself, its outcome unknown.
    """
    _publish(run, "chain", _chain(tasks), client, timeout)


def map(
    run: Run,
    *,
    task: TaskName,
    items: list[Any],
    how: Literal["map", "starmap", "chunks"] = "map",
    size: Count = 10,
    options: dict[str, Any] | None = None,
    client: ClientRef | None = None,
    timeout: Duration = 30.0,
) -> None:
    """Publish one message that calls a task for each of several items, or one such message for each few of them.

    :param task: the task's name.
    :param items: what it is called with, one after the other.
    :param how: ``map`` gives it the item; ``starmap`` and ``chunks`` give it the items of the item. ``map`` and
        ``starmap`` are one message, ``chunks`` is a group of messages.
    :param size: so many items in one message of ``chunks``.
    :param options: options of ``apply_async``, as Celery takes them (seconds are plain numbers).
    :param client: who publishes; by default the first.
    :param timeout: seconds; a publish that blocks longer is left to itself, its outcome unknown.
    """
    count = -(-len(items) // size) if how == "chunks" else 1
    order = {"task": task, "items": items, "how": how, "size": size, "options": options or {}}
    members = [(MEMBER, number) for number in range(count)]
    _publish(run, "map", _Order(order, task, count, members, as_group=how == "chunks"), client, timeout)


@dataclass(frozen=True)
class _Order:
    """What the client is told.

    :param name: the name of the first task.
    :param count: how many tasks there are.
    :param awaited: role and number of those whose results ``get`` waits for.
    :param as_group: whether it waits for all of them together, as one group.
    """

    told: Mapping[str, Any]
    name: str
    count: int
    awaited: Sequence[tuple[str, int]]
    as_group: bool = False


def _group(tasks: Sequence[TaskName | Part] | None = None, task: TaskName | None = None, **many: Any) -> _Order:
    if (tasks is None) == (task is None):
        given = "both tasks and task" if tasks is not None else "neither tasks nor task"
        raise UsageError(f"it has {given}", hint="list its tasks, or name one task and say how often")
    ways = {name: many[name] for name in ("times", "numbered", "each", *_SHARED) if many.get(name) is not None}
    if tasks is not None and ways:
        raise UsageError(f"{', '.join(ways)} beside tasks", hint="that goes with `task`; else say it of each task")
    parts = told(tasks if tasks is not None else Many(str(task), **ways))
    count = size(parts)
    return _Order({"parts": parts}, name_of(parts), count, [(MEMBER, n) for n in range(count)], as_group=True)


def _chord(header: Parts, body: TaskName | Part = "collect", **_: Any) -> _Order:
    parts, last = told(header), told(body)
    count = size(last)
    order = {"parts": parts, "body": last}
    return _Order(order, name_of(parts), size(parts) + count, [(BODY, count - 1)])


def _chain(tasks: Sequence[TaskName | Task], **_: Any) -> _Order:
    if len(tasks) > MOST_LINKS:
        raise UsageError(f"it has {len(tasks)} tasks", hint=f"at most {MOST_LINKS} can be told apart")
    links = told(tasks)
    return _Order({"links": links["list"]}, name_of(links), len(tasks), [(link(len(tasks) - 1), 0)])


#: By verb, what makes an order of its arguments: raises UsageError where they do not go together.
ORDERS: Mapping[str, Callable[..., _Order]] = {"group": _group, "chord": _chord, "chain": _chain}


def _publish(run: Run, kind: str, order: _Order, client: str | None, timeout: float) -> None:
    label = run.step.name or f"{kind}-{run.step.index}"
    prefix = run.declare(label, order.name, order.count)
    ids = [part_id(prefix, role, number) for role, number in order.awaited]
    run.awaited[label] = {"group": part_id(prefix, GROUP) if order.as_group else None, "ids": ids}
    try:
        run.client_of(client).order("canvas", {"kind": kind, "prefix": prefix, **order.told}, timeout=timeout)
    except WaitExpired:
        # The publish blocks: what that means is for the checks to say, from its open invocation in the history.
        return
