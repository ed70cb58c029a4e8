"""Variants: one tree for each, with its values in the places of ``$name``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from pytest_celery_chaos.scenario import tree
from pytest_celery_chaos.scenario.problems import Problems, nearest
from pytest_celery_chaos.scenario.tree import Node, Scalar

_VARIANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def expand(root: tree.Mapping, problems: Problems) -> Mapping[str | None, tree.Mapping]:
    """The tree of each variant, by name; where the file has none, the one tree under None."""
    values = _values(root, problems)
    body = root.without("variants")
    names = {name for variant in values.values() for name in variant.items}
    used = set()
    for scalar in _scalars(body):
        if scalar.variable is None:
            continue
        used.add(scalar.variable)
        if scalar.variable not in names:
            hint = nearest(scalar.variable, names) if names else "add `variants`, or write $$ for a plain $"
            problems.add(scalar.place, f"no variant defines {scalar.text}", hint)
    for variant in values.values():
        for name in variant.items.keys() - used if isinstance(variant, tree.Mapping) else ():
            problems.add(
                variant.places[name], f"${name} is used nowhere", f"remove it, or write ${name} where it belongs"
            )
        break
    if not values:
        return {None: _put(body, {})}
    return {name: _put(body, variant.items) for name, variant in values.items()}


def _values(root: tree.Mapping, problems: Problems) -> dict[str, tree.Mapping]:
    """What each variant gives for each name; those that are wrong are told and left out."""
    node = root.items.get("variants")
    if node is None:
        return {}
    if not isinstance(node, tree.Mapping) or not node.items:
        problems.add(node.place, f"variants: expected a mapping of variants, not {node}", "write warm: {death: warm}")
        return {}
    found: dict[str, tree.Mapping] = {}
    for name, variant in node.items.items():
        if not _VARIANT.fullmatch(name):
            problems.add(node.places[name], f"{name!r} is no name for a variant", "use letters, digits, . _ and -")
        elif not isinstance(variant, tree.Mapping) or not variant.items:
            problems.add(
                variant.place,
                f"variant {name!r}: expected a mapping of names to values, not {variant}",
                "write {death: warm}",
            )
        else:
            found[name] = variant
    _same_names(found, problems)
    return found


def _same_names(found: Mapping[str, tree.Mapping], problems: Problems) -> None:
    for name, variant in found.items():
        for key, value in variant.items.items():
            if not _VARIABLE.fullmatch(key):
                problems.add(variant.places[key], f"{key!r} cannot be written as ${key}", "use letters, digits and _")
            for inner in _scalars(value):
                if inner.variable:
                    problems.add(inner.place, f"a variant's value cannot be another {inner.text}", "write the value")
        for other, given in found.items():
            for missing in sorted(given.items.keys() - variant.items.keys()):
                hint = f"add {missing} to it: every variant gives the same names"
                problems.add(variant.place, f"variant {name!r} lacks {missing!r}, which {other!r} has", hint)


def _scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, tree.Mapping):
        for child in node.items.values():
            yield from _scalars(child)
    elif isinstance(node, tree.Sequence):
        for child in node.items:
            yield from _scalars(child)


def _put(node: tree.Mapping, values: Mapping[str, Node]) -> tree.Mapping:
    return replace(node, items={key: _replaced(child, values) for key, child in node.items.items()})


def _replaced(node: Node, values: Mapping[str, Node]) -> Node:
    if isinstance(node, tree.Mapping):
        return _put(node, values)
    if isinstance(node, tree.Sequence):
        return replace(node, items=[_replaced(child, values) for child in node.items])
    if isinstance(node, Scalar) and node.text.startswith("$$"):
        return replace(node, text=node.text[1:])
    if isinstance(node, Scalar) and node.variable:
        value = values.get(node.variable, node)
        # The place stays where the value is used: that is where it is wrong, or right.
        return replace(value, place=node.place, origin=node.variable) if isinstance(value, Scalar) else value
    return node
