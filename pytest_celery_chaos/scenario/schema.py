"""The JSON Schema of the format, for editors: made from the model and from the verbs' signatures."""

from __future__ import annotations

import json
import types
from collections import abc
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from pytest_celery_chaos.engine.plan import Hazard
from pytest_celery_chaos.history.event import KINDS, POINTS
from pytest_celery_chaos.history.wire import ROLES, WIRE_POINTS
from pytest_celery_chaos.registry import Verb
from pytest_celery_chaos.scenario import fields as keys
from pytest_celery_chaos.scenario.decode import is_text
from pytest_celery_chaos.scenario.entries import ExpectList, Named, Recorded, StepList, When, beside_step
from pytest_celery_chaos.scenario.fields import Field, Fields
from pytest_celery_chaos.scenario.model import Format, Part
from pytest_celery_chaos.scenario.vocabulary import Vocabulary
from pytest_celery_chaos.values import AtLeast, Ref, Unit

Schema: TypeAlias = dict[str, Any]

#: The schema that ships with the package.
FILE: Final = Path(__file__).with_name("schema.json")

_VARIABLE: Final[Schema] = {"$ref": "#/definitions/variable"}
# Written without its quotes, a number is still read as the text that it is.
_TEXT: Final[Schema] = {"type": ["string", "number"]}
_PLAIN: Final[Mapping[Any, Schema]] = {str: _TEXT, int: {"type": "integer"}, float: {"type": "number"}}
_REFS: Final[Mapping[str, Schema]] = {
    "point": {"enum": list(dict.fromkeys((*POINTS, *WIRE_POINTS)))},
    "wire_role": {"enum": list(ROLES)},
    "event": {"enum": list(KINDS)},
    "signal": {"type": "string", "pattern": "^(SIG)?[A-Z]+[0-9]*$"},
}
_DURATION: Final[Schema] = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$"}
_NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"}


def schema(vocabulary: Vocabulary | None = None) -> Schema:
    """The JSON Schema (draft 7) of a scenario file.

    It is what an editor can tell while one types; ``celery-chaos lint`` tells more.
    """
    known = vocabulary or Vocabulary()
    definitions = {
        "variable": {"type": "string", "pattern": "^\\$[A-Za-z_][A-Za-z0-9_]*$"},
        "step": _entry(known.verbs, beside_step(), {"when": _moment()}),
        "expectation": _entry(known.checks, keys.of_dataclass(Recorded), {}),
        "hazard": _object(keys.of_dataclass(Hazard)),
    }
    faults = [{"required": [name]} for name in known.faults]
    definitions["step"] |= {"if": {"required": ["for"]}, "then": {"anyOf": faults}}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A scenario of pytest-celery-chaos"}
    return {**head, **_object(keys.of_dataclass(Format)), "definitions": definitions}


def text(vocabulary: Vocabulary | None = None) -> str:
    """The schema as the text of the file that ships."""
    return json.dumps(schema(vocabulary), indent=1, ensure_ascii=False) + "\n"


def _object(fields: Fields, **more: Any) -> Schema:
    made: Schema = {
        "type": "object",
        "properties": {name: _property(field) for name, field in fields.items.items()},
        "additionalProperties": False if fields.rest is None else _of(fields.rest),
    }
    required = [name for name, field in fields.items.items() if field.required]
    return made | ({"required": required} if required else {}) | more


def _property(field: Field) -> Schema:
    made = dict(_of(field.annotation))
    if field.about:
        made["description"] = field.about
    if isinstance(field.default, str | int | float) and not _is_duration(field.annotation):
        made["default"] = field.default
    return made


def _is_duration(annotation: Any) -> bool:
    return any(isinstance(marker, Unit) for marker in getattr(annotation, "__metadata__", ()))


def _any_of(*options: Schema) -> Schema:
    """One of several; a variable may stand in any place, so it is always among them."""
    flat: list[Schema] = []
    for option in options:
        flat += option["anyOf"] if option.keys() == {"anyOf"} else [option]
    unique = [each for index, each in enumerate(flat) if each not in flat[:index] and each != _VARIABLE]
    if {} in unique:
        return {}
    return {"anyOf": [*unique, _VARIABLE]}


def _of(annotation: Any) -> Schema:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(inner[0], inner[1:])
    if origin in (Union, types.UnionType):
        return _any_of(*(_of(each) for each in inner))
    if origin is Literal:
        return _any_of({"enum": list(inner)})
    plain = origin or annotation
    if plain in _PLAIN:
        return _PLAIN[plain] if plain is str else _any_of(_PLAIN[plain])
    if plain in (bool, type(None)):
        return _any_of({"type": "boolean" if plain is bool else "null"})
    if plain is tuple and inner and ... not in inner:
        items = [_of(each) for each in inner]
        return _any_of({"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)})
    if isinstance(plain, type) and issubclass(plain, abc.Sequence):
        each: Schema = _of(inner[0]) if inner else {}
        array: Schema = {"type": "array", "items": each}
        return _any_of(array, each) if inner and is_text(inner[0]) else _any_of(array)
    if isinstance(plain, type) and issubclass(plain, abc.Mapping):
        return _any_of({"type": "object", "additionalProperties": _of(inner[1]) if inner else {}})
    if is_dataclass(plain) and isinstance(plain, type):
        return _any_of(_named_object(plain))
    return {}


def _named_object(kind: type) -> Schema:
    return {"$ref": "#/definitions/hazard"} if kind is Hazard else _object(keys.of_dataclass(kind))


def _annotated(base: Any, markers: tuple[Any, ...]) -> Schema:
    for marker in markers:
        if isinstance(marker, Unit):
            return _any_of(_DURATION)
        if isinstance(marker, AtLeast):
            return _any_of({**_PLAIN[base], "minimum": marker.least})
        if isinstance(marker, Ref):
            return _any_of(_REFS[marker.kind]) if marker.kind in _REFS else _TEXT
        if isinstance(marker, Named):
            return _any_of(_NAME)
        if isinstance(marker, Part):
            return _any_of(_object(marker.fields), {"type": "null"})
        if isinstance(marker, StepList | ExpectList):
            item = "step" if isinstance(marker, StepList) else "expectation"
            return {"type": "array", "items": {"$ref": f"#/definitions/{item}"}}
    return _of(base)


def _moment() -> Schema:
    one = [{"required": [key]} for key in ("at", "before", "after")]
    return _any_of(_object(keys.of_dataclass(When), oneOf=one))


def _entry(verbs: Mapping[str, Verb], beside: Fields, instead: Mapping[str, Schema]) -> Schema:
    made = _object(beside)
    made["properties"] |= {name: {**made["properties"][name], **each} for name, each in instead.items()}
    made["properties"] = {**{name: _verb(verb) for name, verb in verbs.items()}, **made["properties"]}
    return {**made, "oneOf": [{"required": [name]} for name in verbs]}


def _verb(verb: Verb) -> Schema:
    fields = keys.of_verb(verb)
    inside = fields
    if verb.family != "check" and "name" not in fields.items:  # it may stand among the arguments as well
        inside = Fields({**fields.items, "name": beside_step().items["name"]}, fields.rest)
    options = [_object(inside)]
    if not any(field.required for field in fields.items.values()):
        options.append({"type": "null"})
    short = keys.shorthand(fields)
    if short:
        options.append(_of(fields.items[short].annotation))
    return {"description": keys.lead(verb.function.__doc__), **_any_of(*options)}
