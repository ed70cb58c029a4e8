"""A scenario's text as a tree whose every part knows its place in the file, and keeps the text as it was written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence as AnySequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias


@dataclass(frozen=True)
class Place:
    """Where in a file; lines and columns count from 1. *width* is how many characters a caret underlines."""

    file: str
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


# What YAML 1.2 reads as a number, without its octal and hexadecimal forms: who writes 0o17 here means text.
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_VARIABLE: Final = re.compile(r"\$(?P<name>[A-Za-z_][A-Za-z0-9_]*)", re.ASCII)


@dataclass(frozen=True)
class Scalar:
    """One value, as text.

    :param quoted: it stands in quotes (or is a block of text), and so is text whatever it looks like.
    :param ambiguous: readers of YAML disagree whether it is text (``no``, ``010``, ``1:30``, ``1_000``).
    :param origin: the ``$name`` that it stands for, in a variant.
    """

    place: Place
    text: str
    quoted: bool = False
    ambiguous: bool = False
    origin: str | None = None

    @cached_property
    def value(self) -> Any:
        """What the text means where any value may stand: true, false, null, a number, else the text itself."""
        if self.quoted:
            return self.text
        if self.text in ("", "~", "null"):
            return None
        if self.text in ("true", "false"):
            return self.text == "true"
        if _INT.fullmatch(self.text):
            return int(self.text)
        if _FLOAT.fullmatch(self.text):
            number = float(self.text)
            return number if math.isfinite(number) else self.text
        return self.text

    @property
    def variable(self) -> str | None:
        """``name`` where the whole scalar is ``$name``."""
        found = _VARIABLE.fullmatch(self.text)
        return found["name"] if found else None

    @property
    def undefined(self) -> bool:
        """It is a ``$name`` that no variant defines: told already, and of no type."""
        return self.origin is not None and self.text == f"${self.origin}"

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return f"{shown!r} (from ${self.origin})" if self.origin else repr(shown)


@dataclass(frozen=True)
class Given:
    """A value that Python code gave, not a file."""

    place: Place
    value: Any

    def __str__(self) -> str:
        shown = repr(self.value)
        return shown if len(shown) <= 80 else f"{shown[:77]}..."


@dataclass(frozen=True)
class Sequence:
    place: Place
    items: AnySequence[Node]

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True)
class Mapping:
    """Keys are text, each once; *places* says where each stands."""

    place: Place
    items: AnyMapping[str, Node]
    places: AnyMapping[str, Place]

    def __str__(self) -> str:
        return "a mapping"

    def without(self, *names: str) -> Mapping:
        return replace(self, items={name: node for name, node in self.items.items() if name not in names})


Node: TypeAlias = Scalar | Given | Sequence | Mapping


def wrap(value: Any, place: Place) -> Node:
    """A tree of a value that Python code gave, so that it is checked by the same rules as a file's."""
    if isinstance(value, AnyMapping) and all(isinstance(key, str) for key in value):
        items = {key: wrap(item, place) for key, item in value.items()}
        return Mapping(place, items, dict.fromkeys(items, place))
    if isinstance(value, list | tuple):
        return Sequence(place, [wrap(item, place) for item in value])
    return Given(place, value)


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar | Given) and node.value is None
