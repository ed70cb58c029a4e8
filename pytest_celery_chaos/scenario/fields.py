"""What keys a mapping may have: derived from a dataclass or from a verb's signature, never listed again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of
from functools import cache
from typing import Any, Final, get_type_hints

from pytest_celery_chaos.registry import Verb

_PARAM: Final = re.compile(r":param (?P<name>\w+): (?P<text>.*)")


@dataclass(frozen=True)
class Field:
    """One key.

    :param annotation: the type, with its markers.
    :param about: what the docstring says of it.
    """

    name: str
    annotation: Any
    required: bool = False
    default: Any = None
    about: str = ""


@dataclass(frozen=True)
class Fields:
    """The keys of one mapping, in their order.

    :param rest: the type of any other key's value; None: there is no other key.
    """

    items: Mapping[str, Field]
    rest: Any = None

    def without(self, *names: str) -> Fields:
        return Fields({name: field for name, field in self.items.items() if name not in names}, self.rest)


def lead(doc: str | None) -> str:
    """The paragraphs of a docstring before its parameters, each on one line."""
    text = inspect.cleandoc(doc or "").partition("\n:")[0].strip()
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def params(doc: str | None) -> dict[str, str]:
    """What a docstring says of each parameter."""
    told: dict[str, str] = {}
    name = None
    for line in inspect.cleandoc(doc or "").splitlines():
        found = _PARAM.match(line)
        if found:
            name = found["name"]
            told[name] = found["text"].strip()
        elif name and line.startswith(" "):
            told[name] += f" {line.strip()}"
        else:
            name = None
    return told


@cache
def of_dataclass(kind: type) -> Fields:
    """The keys that stand for the fields of a dataclass."""
    hints, told = get_type_hints(kind, include_extras=True), params(kind.__doc__)
    found = {}
    for field in fields_of(kind):
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        required = default is MISSING
        found[field.name] = Field(
            field.name, hints[field.name], required, None if required else default, told.get(field.name, "")
        )
    return Fields(found)


@cache
def of_verb(verb: Verb) -> Fields:
    """The keys that stand for the arguments of a verb.

    :raises UsageError: the verb's function cannot be loaded.
    """
    told, rest, found = params(inspect.getdoc(verb.function)), None, {}
    for name, parameter in verb.parameters.items():
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = annotation
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            found[name] = Field(name, annotation, required, default, told.get(name, ""))
    return Fields(found, rest)


def shorthand(fields: Fields) -> str | None:
    """The key that a bare value stands for: the only required one, or where none is required the first.

    Several required keys leave it open which is meant, and so there is none.
    """
    required = [name for name, field in fields.items.items() if field.required]
    if len(required) > 1:
        return None
    return required[0] if required else next(iter(fields.items), None)
