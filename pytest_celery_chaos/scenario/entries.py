"""The entries of `steps` and of `expect`: one verb or one check each, and what may stand beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pytest_celery_chaos.engine.pattern import SOURCES
from pytest_celery_chaos.engine.plan import Expectation, Hazard, Moment, Step
from pytest_celery_chaos.history.event import POINTS
from pytest_celery_chaos.history.wire import WIRE_POINTS
from pytest_celery_chaos.registry import Verb
from pytest_celery_chaos.scenario import arguments, fields, tree
from pytest_celery_chaos.scenario.decode import BAD, Decoder
from pytest_celery_chaos.scenario.problems import Problems, nearest
from pytest_celery_chaos.scenario.tree import Node, Place
from pytest_celery_chaos.values import (
    BeatRef,
    ClientRef,
    Count,
    Duration,
    EventRef,
    LinkRef,
    PointRef,
    StepRef,
    TaskRef,
    WorkerRef,
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True)
class Named:
    """Marks a name that the file gives to something: it has no dot, so that it is never taken for a task's name."""

    noun = "a name"

    def read(self, decoder: Decoder, node: Node, what: str) -> Any:
        name = decoder.read(node, str, what)
        if name is not BAD and not _NAME.fullmatch(name):
            return decoder.wrong(node, f"{what}: expected a name", "use letters, digits, - and _; begin with a letter")
        return name


@dataclass(frozen=True)
class When:
    """A moment: one of *at*, *before* and *after*, and what narrows it down.

    :param at: an event of the history.
    :param before: a point of the protocol; the process that reaches it is held there until the step is done.
    :param after: a point, the process is held behind it; or a duration, after which the step is done.
    :param since: from which step the duration counts; default: from where this one stands.
    :param task: only for this task.
    :param worker: only in this worker.
    :param client: only in this client.
    :param beat: only in this beat.
    :param link: the point is that of a command on this link: before the server has seen it, or after the server has
        answered and before the client sees that.
    :param nth: the n-th such event after this step was reached.
    :param timeout: a moment that has not come by then was never reached, and the run is inconclusive.
    """

    at: EventRef | None = None
    before: PointRef | None = None
    after: PointRef | Duration | None = None
    since: StepRef | None = None
    task: TaskRef | None = None
    worker: WorkerRef | None = None
    client: ClientRef | None = None
    beat: BeatRef | None = None
    link: LinkRef | None = None
    nth: Count = 1
    timeout: Duration | None = None


@dataclass(frozen=True)
class Beside:
    """What may stand beside a step's verb.

    :param name: by which later steps and checks mean this step; of a ``send``: by which they mean its tasks.
    :param when: the step waits for this moment, armed where it stands; the steps below go on at once.
    :param lasts: a fault heals by itself after so long (written ``for``).
    """

    name: Annotated[str, Named()] | None = None
    when: When | None = None
    lasts: Duration | None = None


@dataclass(frozen=True)
class Recorded:
    """What may stand beside a check.

    :param hazard: a violation that is known; or a list of them.
    """

    hazard: Hazard | Sequence[Hazard] = ()


def beside_step() -> fields.Fields:
    """The keys beside a verb; `for` is a keyword of Python and cannot be a field's name."""
    items = fields.of_dataclass(Beside).items
    return fields.Fields({"name": items["name"], "when": items["when"], "for": items["lasts"]})


@dataclass(frozen=True)
class StepEntry:
    """A step, and where its parts stand: by key, ``when.task`` for the keys of its moment."""

    step: Step
    place: Place
    places: Mapping[str, Place]

    def at(self, key: str) -> Place:
        return self.places.get(key, self.place)


@dataclass(frozen=True)
class ExpectEntry:
    """An expectation, and where it and the variants of its hazards stand."""

    expectation: Expectation
    place: Place
    hazards: Sequence[tuple[Hazard, Place]]


@dataclass(frozen=True)
class StepList:
    """Marks the list of steps."""

    noun = "a list of steps"

    def read(self, decoder: Decoder, node: Node, what: str) -> Any:
        return _entries(decoder, node, "steps", _step)


@dataclass(frozen=True)
class ExpectList:
    """Marks the list of expectations."""

    noun = "a list of checks"

    def read(self, decoder: Decoder, node: Node, what: str) -> Any:
        return _entries(decoder, node, "expect", _expectation)


def _entries(decoder: Decoder, node: Node, what: str, read: Any) -> Any:
    if not isinstance(node, tree.Sequence):
        return decoder.wrong(node, f"{what}: expected a list", "begin each entry with `- `")
    found = [read(decoder, item, index) for index, item in enumerate(node.items, start=1)]
    return BAD if any(each is BAD for each in found) else found


def _step(decoder: Decoder, node: Node, index: int) -> Any:
    split = _split(decoder, node, "step", decoder.vocabulary.verbs, beside_step())
    if split is None:
        return BAD
    verb, place, body, rest = split
    if verb.family != "fault" and "for" in rest.items:
        decoder.problems.add(rest.places["for"], f"`for` beside {verb.name}: it stands beside faults only", "remove it")
    body, rest = _name_inside(decoder, verb, body, rest)
    args = arguments.read(decoder, verb, body)
    beside = decoder.fields(rest.without("when"), beside_step().without("when"), "the step") if rest.items else {}
    when: Any = read_moment(decoder, rest.items["when"]) if "when" in rest.items else None
    if args is BAD or beside is BAD or when is BAD:
        return BAD
    family: Any = verb.family
    step = Step(
        index,
        verb.name,
        family,
        args,
        beside.get("name"),
        when,
        beside.get("for"),
        f"{place.file}:{place.line}:{place.column}",
    )
    places = {**_places(body), **{key: child.place for key, child in rest.items.items()}}
    if "when" in rest.items:
        places |= {f"when.{key}": at for key, at in _places(rest.items["when"]).items()}
    return StepEntry(step, place, places)


def _name_inside(decoder: Decoder, verb: Verb, body: Node, rest: tree.Mapping) -> tuple[Node, tree.Mapping]:
    """Move `name` from among the arguments to beside the verb: `chaos.send(…, name=…)` has it there too."""
    if not isinstance(body, tree.Mapping) or "name" not in body.items or "name" in fields.of_verb(verb).items:
        return body, rest
    if "name" in rest.items:
        decoder.problems.add(body.places["name"], f"{verb.name} has two names", "remove one")
        return body.without("name"), rest
    items, places = {**rest.items, "name": body.items["name"]}, {**rest.places, "name": body.places["name"]}
    return body.without("name"), tree.Mapping(rest.place, items, places)


def read_moment(decoder: Decoder, node: Node) -> Any:
    """The :class:`Moment` that a `when` says, or BAD with the problems told."""
    given = decoder.fields(node, fields.of_dataclass(When), "when")
    if given is BAD:
        return BAD
    kinds = [key for key in ("at", "before", "after") if given.get(key) is not None]
    if len(kinds) != 1:
        what = f"when has {' and '.join(kinds)}" if kinds else "when says no moment"
        decoder.problems.add(node.place, what, "give exactly one of: at, before, after")
        return BAD
    delayed = isinstance(given.get("after"), float)
    wrong = [key for key in (("task", *SOURCES, "nth") if delayed else ("since",)) if given.get(key) is not None]
    shown = f"{given['after']:g}s" if delayed else given[kinds[0]]
    for key in wrong:
        hint = "a duration is counted from a step: use since" if delayed else "since goes with a duration: after: 2s"
        decoder.problems.add(_places(node)[key], f"when: {key} does not go with {kinds[0]}: {shown}", hint)
    if len(named := [role for role in SOURCES if given.get(role) is not None]) > 1:
        decoder.problems.add(
            _places(node)[named[-1]], f"when has {' and '.join(named)}", "name one process, or one link"
        )
        return BAD
    if not delayed and not point_is_there(given, _places(node).__getitem__, "when", decoder.problems):
        return BAD
    if delayed:
        given["delay"] = given.pop("after")
    return BAD if wrong else Moment(**given)


def point_is_there(given: Mapping[str, Any], place_of: Callable[[str], Place], what: str, problems: Problems) -> bool:
    """Whether the point of a moment is one of those that its process, or its link, can be held at; a problem if not."""
    side = "before" if given.get("before") is not None else "after"
    point = given.get(side)
    points = WIRE_POINTS if given.get("link") is not None else POINTS
    if not isinstance(point, str) or point in points:
        return True
    if points is POINTS:
        told, hint = f"{what}: {side} {point} is a point of a link", "say which: link: a-broker"
    else:
        told, hint = f"{what}: {side} {point} is no point of a link", nearest(point, points)
    problems.add(place_of(side), told, hint)
    return False


def _expectation(decoder: Decoder, node: Node, index: int) -> Any:
    beside = fields.of_dataclass(Recorded)
    split = _split(decoder, node, "expectation", decoder.vocabulary.checks, beside)
    if split is None:
        return BAD
    verb, place, body, rest = split
    args = arguments.read(decoder, verb, body)
    nodes: Sequence[Node] = []
    if "hazard" in rest.items:
        hazard = rest.items["hazard"]
        nodes = hazard.items if isinstance(hazard, tree.Sequence) else [hazard]
    hazards = [decoder.read(each, Hazard, "hazard") for each in nodes]
    if args is BAD or any(each is BAD for each in hazards):
        return BAD
    where = [_places(each).get("variant", each.place) for each in nodes]
    return ExpectEntry(Expectation(verb.name, args, hazards, str(place)), place, list(zip(hazards, where, strict=True)))


def _split(
    decoder: Decoder, node: Node, noun: str, verbs: Mapping[str, Verb], beside: fields.Fields
) -> tuple[Verb, Place, Node, tree.Mapping] | None:
    """An entry's one verb, its place, its arguments, and what stands beside it; None with the problem told."""
    if not isinstance(node, tree.Mapping):
        verb = f"`- {node.text}:`" if isinstance(node, tree.Scalar) and node.text in verbs else "`- VERB: {...}`"
        decoder.wrong(node, f"{noun}: expected a mapping", f"write {verb}")
        return None
    found = [name for name in node.items if name in verbs]
    for name in node.items:
        if name not in verbs and name not in beside.items:
            decoder.problems.add(
                node.places[name], f"unknown key {name!r} in {noun}", _unknown(decoder, name, verbs, beside)
            )
    if len(found) != 1:
        if found:
            what = f"a {noun} with {' and '.join(found)}"
            decoder.problems.add(
                node.places[found[-1]], what, f"make each an entry of its own, begun with `- {found[-1]}:`"
            )
        elif all(name in beside.items for name in node.items):
            decoder.problems.add(node.place, f"{noun} says nothing to do", f"add one of: {', '.join(verbs)}")
        return None
    name = found[0]
    rest = tree.Mapping(node.place, {key: node.items[key] for key in beside.items if key in node.items}, node.places)
    return verbs[name], node.places[name], node.items[name], rest


def _unknown(decoder: Decoder, name: str, verbs: Mapping[str, Verb], beside: fields.Fields) -> str:
    if name in decoder.vocabulary.checks:
        return f"{name} is a check: write it under `expect`"
    if name in decoder.vocabulary.verbs or name in beside_step().items:
        return f"{name} belongs to `steps`"
    if name in fields.of_dataclass(Recorded).items:
        return f"{name} belongs to `expect`"
    return nearest(name, [*verbs, *beside.items])


def _places(node: Node) -> dict[str, Place]:
    if not isinstance(node, tree.Mapping):
        return {}
    return {key: child.place for key, child in node.items.items()}
