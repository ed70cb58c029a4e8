"""From a file's bytes to a tree with places: YAML 1.2's plain values, no tags, no anchors, one document.

Read from the parser's events, not by PyYAML's own constructors: those take ``on`` for true and ``1:30`` for 90,
keep the last of two equal keys, and recurse as deep as a file tells them to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario.problems import Problems
from pytest_celery_chaos.scenario.tree import Mapping, Node, Place, Scalar, Sequence

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 20
MAX_NODES: Final = 20_000

_RESOLVER: Final = yaml.resolver.Resolver()
# YAML 1.2 reads 08 as 8 and 0o17 as 15; PyYAML, which is YAML 1.1, reads both as text and 010 as 8.
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9xob][0-9a-fA-F_]*", re.ASCII)


class _Stop(Exception):
    """Nothing after this problem can be read."""


def read_text(path: Path) -> str:
    """The text of a scenario file.

    :raises ScenarioError: there is no such file, or it is not UTF-8 text of at most 1 MB.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ScenarioError("is a folder, not a scenario file", where=where, hint="name a *.chaos.yaml in it") from None
    except FileNotFoundError:
        raise ScenarioError("there is no such file", where=where, hint="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ScenarioError(f"cannot be read: {error}", where=where, hint="check its permissions") from None
    if len(data) > MAX_BYTES:
        raise ScenarioError(f"is larger than {MAX_BYTES} bytes", where=where, hint="split it into several scenarios")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        column = len(before) - (before.rfind("\n") + 1) + 1
        place = Place(where, before.count("\n") + 1, column)
        raise ScenarioError(
            f"byte 0x{data[error.start]:02x} is not UTF-8", where=str(place), hint="save the file as UTF-8"
        ) from None


def parse(text: str, file: str, problems: Problems) -> Mapping | None:
    """The tree of *text*; None where it could not be made, with the reason in *problems*.

    :param file: how places name the file.
    """
    try:
        return _Builder(file, problems).document(yaml.parse(text, Loader=yaml.SafeLoader))
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        what = error.problem or error.context or "is not YAML"
        problems.add(place, f"not YAML: {what}", _syntax_hint(what))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        character = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        problems.add(place, f"not YAML: character U+{character:04X} is not allowed", "remove or escape it")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # An escape beyond Unicode ("\UFFFFFFFF") and a version directive of thousands of digits get here.
        problems.add(Place(file, 1, 1), f"not YAML: {error}", "look for a wrong escape in a quoted text")
    return None


def _syntax_hint(problem: str) -> str:
    if "'\\t'" in problem:
        return "indent with spaces: YAML forbids tabs"
    if "expected <block end>" in problem or "mapping values are not allowed" in problem:
        return "check the indentation, and quote a text that has ': ' in it"
    if "cannot start any token" in problem:
        return "quote the text"
    return "check brackets, quotes and indentation before this place"


class _Builder:
    """Makes the tree of one document out of the parser's events."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file, self._problems, self._nodes = file, problems, 0

    def document(self, events: Iterator[Any]) -> Mapping | None:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self._problems.add(self._place(event), "a second document", "give each scenario a file of its own")
                raise _Stop
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        if root is None or (isinstance(root, Scalar) and root.value is None):
            self._problems.add(Place(self._file, 1, 1), "the file is empty", "begin with `scenario: TITLE`")
            return None
        if not isinstance(root, Mapping):
            self._problems.add(root.place, f"expected a mapping of keys, not {root}", "begin with `scenario: TITLE`")
            return None
        return root

    def _place(self, event: Any, width: int | None = None) -> Place:
        start, end = event.start_mark, event.end_mark
        on_one_line = end.column - start.column if start.line == end.line else 1
        return Place(self._file, start.line + 1, start.column + 1, max(1, on_one_line if width is None else width))

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            what = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            self._problems.add(self._place(event), what, "a scenario needs far less: simplify it")
            raise _Stop
        self._refuse_extras(event)
        if isinstance(event, yaml.AliasEvent):
            return Scalar(self._place(event), "")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        place = self._place(event, 1)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                items.append(self._node(item, events, depth + 1))
            return Sequence(place, items)
        return self._mapping(place, events, depth)

    def _refuse_extras(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            what = f"alias *{event.anchor}" if isinstance(event, yaml.AliasEvent) else f"anchor &{event.anchor}"
            self._problems.add(self._place(event), f"{what}: not part of the format", "repeat the value")
        elif event.tag:
            self._problems.add(self._place(event), f"tag {event.tag!r}: not part of the format", "remove it")

    def _scalar(self, event: Any) -> Scalar:
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in event.value):
            self._problems.add(self._place(event), "text with a null or half a character", "remove the escape")
            return Scalar(self._place(event), "", quoted=True)
        plain = Scalar(self._place(event), event.value, quoted=event.style is not None)
        if plain.quoted or not isinstance(plain.value, str) or not plain.text:
            return plain
        tag: str = _RESOLVER.resolve(yaml.ScalarNode, plain.text, (True, False))  # type: ignore[no-untyped-call]
        return replace(plain, ambiguous=not tag.endswith(":str") or bool(_LEADING_ZERO.fullmatch(plain.text)))

    def _mapping(self, place: Place, events: Iterator[Any], depth: int) -> Mapping:
        items: dict[str, Node] = {}
        places: dict[str, Place] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar) or (not key.text and not isinstance(event, yaml.AliasEvent)):
                self._problems.add(key.place, f"a key must be text, not {key}", "write `key: value`")
            elif key.text == "<<" and not key.quoted:
                self._problems.add(key.place, "merge key '<<': not part of the format", "repeat the keys")
            elif key.text in items:
                first = places[key.text].line
                self._problems.add(key.place, f"key {key} is written twice, first in line {first}", "remove one")
            else:
                items[key.text], places[key.text] = value, key.place
        return Mapping(place, items, places)


def dump(record: Any) -> str:
    """A scenario file's text from plain data, keys in their order, the innermost collections on one line each."""
    return yaml.safe_dump(record, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
