"""In the client process: signatures made of what it is told, each with an id that says which part it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery
from celery import chain as chain_of
from celery import chord as chord_of
from celery import group as group_of
from celery.canvas import Signature, xmap, xstarmap

from pytest_celery_chaos.history.labels import BODY, GROUP, HEADER, MEMBER, link, part_id


class Canvas:
    """Makes the signatures of one step.

    :param prefix: with which the ids of the step begin.
    """

    def __init__(self, app: Celery, prefix: str) -> None:
        self._app, self._prefix = app, prefix
        self._used: Counter[str] = Counter()

    def ready(self, kind: str, order: Mapping[str, Any]) -> Callable[[], Any]:
        """Make what *order* says; the function publishes it and returns what Celery returns: the result to wait for."""
        make = {"group": self._group, "chord": self._chord, "chain": self._chain, "map": self._map}[kind]
        return make(**order)  # type: ignore[operator, no-any-return]

    def _group(self, parts: Mapping[str, Any]) -> Callable[[], Any]:
        return self._as_group(self._members(parts, MEMBER))

    def _chord(self, parts: Mapping[str, Any], body: Mapping[str, Any]) -> Callable[[], Any]:
        # What a chord's own `task_id` says is the id of its group; the body's is given when it is applied.
        chord = chord_of(self._members(parts, HEADER), self._part(body, BODY), app=self._app).set(
            task_id=self._group_id
        )
        last = part_id(self._prefix, BODY, self._used[BODY] - 1)
        return lambda: chord.apply_async(task_id=part_id(self._prefix, GROUP, 1) if "group" in body else last)

    def _chain(self, links: Sequence[Mapping[str, Any]]) -> Callable[[], Any]:
        made = [self._part(each, link(number)) for number, each in enumerate(links)]
        return (made[0] if len(made) == 1 else chain_of(*made, app=self._app)).apply_async  # type: ignore[no-any-return]

    def _map(self, task: str, items: list[Any], how: str, size: int, options: dict[str, Any]) -> Callable[[], Any]:
        known = self._signature(task, (), {})
        if how != "chunks":
            one = (xmap if how == "map" else xstarmap)(known, items, app=self._app)
            return one.set(task_id=self._next(MEMBER), **options).apply_async  # type: ignore[no-any-return]
        few = [items[start : start + size] for start in range(0, len(items), size)]
        return self._as_group(
            [xstarmap(known, each, app=self._app).set(task_id=self._next(MEMBER), **options) for each in few]
        )

    def _as_group(self, members: list[Signature]) -> Callable[[], Any]:
        group = group_of(members, app=self._app)
        return lambda: group.apply_async(task_id=self._group_id)

    @property
    def _group_id(self) -> str:
        return part_id(self._prefix, GROUP)

    def _next(self, role: str) -> str:
        number = self._used[role]
        self._used[role] += 1
        return part_id(self._prefix, role, number)

    def _members(self, parts: Mapping[str, Any], role: str) -> list[Signature]:
        if "list" in parts:
            return [self._part(each, role) for each in parts["list"]]
        args, rest = parts["args"], {"kwargs": parts["kwargs"], "options": parts["options"]}
        if "each" in parts:
            first = [each if isinstance(each, list) else [each] for each in parts["each"]]
        elif "numbered" in parts:
            first = [[number] for number in range(parts["numbered"])]
        else:
            first = [[]] * parts["times"]
        return [self._part({"task": parts["task"], "args": [*own, *args], **rest}, role) for own in first]

    def _part(self, part: Mapping[str, Any], role: str) -> Signature:
        for kind, make in (("group", group_of), ("chain", chain_of)):
            if kind in part:
                inside = [self._part(each, role) for each in part[kind]]
                made = make(inside, app=self._app) if kind == "group" else make(*inside, app=self._app)
                return made.set(**part.get("options", {}))
        made = self._signature(part["task"], part.get("args", ()), part.get("kwargs", {}), part.get("immutable", False))
        return made.set(task_id=self._next(role), **part.get("options", {}))

    def _signature(
        self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], immutable: bool = False
    ) -> Signature:
        # By the task object, where the app has it, since its own options (queue, serializer …) count.
        known = self._app.tasks.get(task)
        if known is not None:
            return known.signature(tuple(args), dict(kwargs), immutable=immutable)
        return self._app.signature(task, tuple(args), dict(kwargs), immutable=immutable)
