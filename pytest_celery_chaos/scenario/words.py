"""Types in the words of messages and of the reference page."""

from __future__ import annotations

import types
from collections import abc
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pytest_celery_chaos.values import Ref, Unit


def describe(annotation: Any) -> str:
    """A type, as a reader of the file calls it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next(filter(None, map(_marked, inner[1:])), None) or describe(inner[0])
    if origin in (Union, types.UnionType):
        return either(inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner)) if len(inner) > 1 else str(inner[0])
    plain = origin or annotation
    names: abc.Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if plain in names:
        return names[plain]
    if plain is tuple and inner and ... not in inner:
        return f"[{', '.join(map(describe, inner))}]"
    if plain is tuple or (isinstance(plain, type) and issubclass(plain, abc.Sequence)):
        if inner[:1] == (str,):
            return "text or a list of texts"
        named = describe(inner[0]) if inner and get_origin(inner[0]) is Annotated else None
        return f"{named} or a list of them" if named else "a list"
    return "any value" if annotation in (Any, object) else "a mapping"


def either(annotations: abc.Iterable[Any]) -> str:
    """Several types, without the absence of a value."""
    return " or ".join(describe(each) for each in annotations if each is not type(None))


_NOUNS: Final[abc.Mapping[str, str]] = {
    "task": "a task (the name of a send step, a task's name or id)",
    "task_name": "a task's name",
    "worker": "a worker's name",
    "client": "a client's name",
    "beat": "a beat's name",
    "broker": "a broker's name",
    "app": "an app's name",
    "link": "a link's name",
    "wire_role": "the role of a command",
    "step": "a step's name",
    "fault": "a fault step's name or all",
    "point": "a point",
    "event": "an event",
    "signal": "a signal's name",
}


def _marked(marker: Any) -> str | None:
    if isinstance(marker, Unit):
        return "a duration"
    return _NOUNS[marker.kind] if isinstance(marker, Ref) else getattr(marker, "noun", None)
