"""Read a tree as a type says: exact about text and numbers, and telling every mistake at its place."""

from __future__ import annotations

import signal
import types
from collections import abc
from dataclasses import dataclass, is_dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, Final, Literal, Protocol, Union, get_args, get_origin, runtime_checkable

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.event import KINDS, POINTS
from pytest_celery_chaos.history.wire import ROLES, WIRE_POINTS
from pytest_celery_chaos.scenario import fields as keys
from pytest_celery_chaos.scenario.fields import Fields
from pytest_celery_chaos.scenario.problems import Problems, nearest
from pytest_celery_chaos.scenario.tree import Given, Mapping, Node, Place, Scalar, Sequence, is_null
from pytest_celery_chaos.scenario.vocabulary import Vocabulary
from pytest_celery_chaos.scenario.words import describe, either
from pytest_celery_chaos.values import DURATION_HINT, AtLeast, Ref, RefKind, Unit, parse_duration

#: What reading gives where the value is wrong, so that the rest is still read.
BAD: Final[Any] = object()


@dataclass(frozen=True)
class Use:
    """A place that names something else of the scenario, to be looked up once all of it is known."""

    kind: RefKind
    name: str
    place: Place


@runtime_checkable
class Reads(Protocol):
    """A marker beside a type that reads its node itself."""

    def read(self, decoder: Decoder, node: Node, what: str) -> Any: ...


@dataclass
class Decoder:
    """Reads nodes; gathers problems, and the uses of names.

    :param vocabulary: the verbs that exist.
    """

    vocabulary: Vocabulary
    problems: Problems = dataclass_field(default_factory=Problems)
    uses: list[Use] = dataclass_field(default_factory=list)

    def read(self, node: Node, annotation: Any, what: str) -> Any:
        """The value of *node* as *annotation* wants it, or BAD with a problem told.

        :param what: how messages name the value: ``pool of worker 'a'``.
        """
        if isinstance(node, Scalar) and node.undefined:
            return BAD
        origin = get_origin(annotation)
        if origin is Annotated:
            return self._annotated(node, annotation, what)
        if origin in (Union, types.UnionType):
            return self._union(node, get_args(annotation), what)
        if annotation in (Any, object):
            return self._anything(node, what)
        if origin is Literal:
            return self._literal(node, get_args(annotation), what)
        plain = origin or annotation
        if plain in _SCALARS:
            return self._scalar(node, plain, what)
        if plain is tuple or (isinstance(plain, type) and issubclass(plain, abc.Sequence)):
            return self._sequence(node, annotation, what)
        if isinstance(plain, type) and issubclass(plain, abc.Mapping):
            return self._mapping(node, get_args(annotation), what)
        if is_dataclass(plain) and isinstance(plain, type):
            given = self.fields(node, keys.of_dataclass(plain), what)
            return BAD if given is BAD else plain(**given)
        raise UsageError(f"{what} has the type {annotation!r}, which a scenario cannot express", hint=_TYPES_HINT)

    def fields(self, node: Node, fields: Fields, what: str) -> Any:
        """What *node* gives of *fields*, by name: not the defaults of those that it leaves out."""
        if isinstance(node, Scalar) and node.undefined:
            return BAD
        if is_null(node):
            node = Mapping(node.place, {}, {})
        if not isinstance(node, Mapping):
            return self.wrong(node, f"{what}: expected a mapping of keys", f"keys: {', '.join(fields.items)}")
        given: dict[str, Any] = {}
        for name, child in node.items.items():
            field = fields.items.get(name)
            annotation = field.annotation if field else fields.rest
            if annotation is None:
                self.problems.add(
                    node.places[name],
                    f"unknown key {name!r} in {what or 'the file'}",
                    nearest(name, fields.items),
                )
                given[name] = BAD
            else:
                given[name] = self.read(child, annotation, f"{name} of {what}" if what else name)
        for name, field in fields.items.items():
            if field.required and name not in node.items:
                self.problems.add(
                    node.place,
                    f"{what or 'the file'} lacks the key {name!r}",
                    f"add {name}: {describe(field.annotation)}",
                )
                given[name] = BAD
        return BAD if _bad(given.values()) else given

    def wrong(self, node: Node, expected: str, hint: str | None = None) -> Any:
        got = "nothing" if is_null(node) else str(node)
        self.problems.add(node.place, f"{expected}, not {got}", hint)
        return BAD

    def _annotated(self, node: Node, annotation: Any, what: str) -> Any:
        base, *markers = get_args(annotation)
        for marker in markers:
            if isinstance(marker, Reads):
                return marker.read(self, node, what)
            if isinstance(marker, Unit):
                return self._duration(node, what)
        if isinstance(node, Given) and isinstance(node.value, signal.Signals) and Ref("signal") in markers:
            return node.value.name.removeprefix("SIG")
        value = self.read(node, base, what)
        for marker in markers:
            if value is BAD:
                break
            if isinstance(marker, Ref):
                value = self._ref(node, marker.kind, value, what)
            elif isinstance(marker, AtLeast) and value < marker.least:
                value = self.wrong(node, f"{what}: expected at least {marker.least}", f"write {marker.least} or more")
        return value

    def _union(self, node: Node, alternatives: tuple[Any, ...], what: str) -> Any:
        if is_null(node) and type(None) in alternatives:
            return None
        wanted = [each for each in alternatives if each is not type(None)]
        if len(wanted) == 1:
            return self.read(node, wanted[0], what)
        natural = type(node.value) if isinstance(node, Scalar | Given) else None
        trials = []
        # The type that the text has by itself goes first: in `str | int` a plain 5 is a number.
        for annotation in sorted(wanted, key=lambda each: each is not natural):
            trial = Decoder(self.vocabulary)
            value = trial.read(node, annotation, what)
            if value is not BAD:
                self.uses += trial.uses
                return value
            trials.append((annotation, trial.problems.found))
        alike = [found for annotation, found in trials if _fits(node, annotation)]
        if len(alike) == 1:
            for problem in alike[0]:
                self.problems.add(problem.place, problem.what, problem.hint)
            return BAD
        hints = dict.fromkeys(hint for _, found in trials for hint in (found[0].hint,) if hint)
        return self.wrong(node, f"{what}: expected {either(wanted)}", "; or ".join(hints) or None)

    def _anything(self, node: Node, what: str) -> Any:
        if isinstance(node, Given):
            return node.value
        if isinstance(node, Scalar):
            if node.ambiguous:
                return self.wrong(node, f"{what}: expected a value that can be read in one way only", _quote(node))
            return node.value
        if isinstance(node, Sequence):
            values = [self._anything(item, what) for item in node.items]
            return BAD if _bad(values) else values
        return self._mapping(node, (str, Any), what)

    def _literal(self, node: Node, allowed: tuple[Any, ...], what: str) -> Any:
        value = node.text if isinstance(node, Scalar) and not is_null(node) else getattr(node, "value", BAD)
        for each in allowed:
            if value == (str(each) if isinstance(node, Scalar) else each):
                return each
        names = [str(each) for each in allowed]
        hint = nearest(value, names) if isinstance(value, str) else f"known: {', '.join(names)}"
        return self.wrong(node, f"{what}: expected {describe(Literal[allowed])}", hint)

    def _scalar(self, node: Node, wanted: type, what: str) -> Any:
        if isinstance(node, Scalar | Given) and not is_null(node):
            value = node.value
            if wanted is str and isinstance(node, Scalar) and not isinstance(value, bool):
                return node.text  # 8.10 stays 8.10, 010 stays 010
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                return float(value)
            if type(value) is wanted or (isinstance(node, Given) and wanted is str and isinstance(value, str)):
                return value
        hint = "write a value, or remove the key" if is_null(node) else _SCALARS[wanted]
        if isinstance(node, Scalar) and node.quoted and wanted is not str:
            hint = "remove the quotes"
        elif isinstance(node, Given):
            hint = f"give a {wanted.__name__}"
        return self.wrong(node, f"{what}: expected {describe(wanted)}", hint)

    def _sequence(self, node: Node, annotation: Any, what: str) -> Any:
        inner = get_args(annotation)
        fixed = inner if get_origin(annotation) is tuple and ... not in inner else None
        single = isinstance(node, Scalar | Given) and not is_null(node)
        if inner and is_text(inner[0]) and not fixed and single:
            node = Sequence(node.place, [node])  # one name may stand without its list
        if not isinstance(node, Sequence) or (fixed and len(fixed) != len(node.items)):
            return self.wrong(node, f"{what}: expected {describe(annotation)}", "write it as [first, second]")
        kinds = fixed or [inner[0] if inner else Any] * len(node.items)
        values = [self.read(item, kind, what) for item, kind in zip(node.items, kinds, strict=True)]
        if _bad(values):
            return BAD
        return tuple(values) if (get_origin(annotation) or annotation) is tuple else values

    def _mapping(self, node: Node, inner: tuple[Any, ...], what: str) -> Any:
        if not isinstance(node, Mapping):
            return self.wrong(node, f"{what}: expected a mapping", "write it as {key: value}")
        kind = inner[1] if inner else Any
        values = {name: self.read(child, kind, f"{what}.{name}") for name, child in node.items.items()}
        return BAD if _bad(values.values()) else values

    def _duration(self, node: Node, what: str) -> Any:
        if isinstance(node, Given) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return float(node.value) if node.value >= 0 else self.wrong(node, f"{what}: expected no less than 0 s")
        text = node.text if isinstance(node, Scalar) else getattr(node, "value", None)
        try:
            return parse_duration(text if isinstance(text, str) else "")
        except UsageError:
            return self.wrong(node, f"{what}: expected a duration", DURATION_HINT)

    def _ref(self, node: Node, kind: RefKind, name: str, what: str) -> Any:
        if kind == "signal":
            return self._signal(node, name, what)
        if kind == "point" and name not in POINTS and name not in WIRE_POINTS:
            hint = f"{name} is an event: write at: {name}" if name in KINDS else nearest(name, POINTS)
            return self.wrong(node, f"{what}: expected a point", hint)
        if kind == "event" and name not in KINDS:
            point = name in POINTS or name in WIRE_POINTS
            hint = f"{name} is a point: write before: or after:" if point else nearest(name, KINDS)
            return self.wrong(node, f"{what}: expected an event", hint)
        if kind == "wire_role" and name not in ROLES:
            return self.wrong(node, f"{what}: expected the role of a command", nearest(name, ROLES))
        if kind not in ("point", "event", "wire_role"):
            self.uses.append(Use(kind, name, node.place))
        return name

    def _signal(self, node: Node, name: str, what: str) -> Any:
        known = [each.name.removeprefix("SIG") for each in signal.Signals]
        short = name.removeprefix("SIG")
        if short not in known:
            return self.wrong(node, f"{what}: expected the name of a signal", nearest(short.upper(), known))
        return short


_TYPES_HINT: Final = "use str, int, float, bool, Literal, list, dict, a dataclass or a type of values.py"
_SCALARS: Final[abc.Mapping[type, str | None]] = {
    str: "quote the text",
    int: "write digits, without sign or separator: 3",
    float: "write a number: 3 or 0.5",
    bool: "write true or false",
}


def is_text(annotation: Any) -> bool:
    """Whether a value of this type is written as one text."""
    return (get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation) is str


def _bad(values: abc.Iterable[Any]) -> bool:
    return any(value is BAD for value in values)


def _quote(node: Scalar) -> str:
    if node.text.lower() in ("true", "false", "yes", "no", "on", "off", "null"):
        word = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(node.text.lower(), node.text.lower())
        return f'write {word}, or quote the text: "{node.text}"'
    return f'quote the text: "{node.text}", or write the number plainly'


def _fits(node: Node, annotation: Any) -> bool:
    base = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    plain = get_origin(base) or base
    is_list = plain is tuple or (isinstance(plain, type) and issubclass(plain, abc.Sequence) and plain is not str)
    is_map = isinstance(plain, type) and (issubclass(plain, abc.Mapping) or is_dataclass(plain))
    return is_list if isinstance(node, Sequence) else is_map if isinstance(node, Mapping) else not (is_list or is_map)
