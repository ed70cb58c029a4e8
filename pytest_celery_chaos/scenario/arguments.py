"""A verb's arguments, checked against its signature: the same for a scenario file and for the fixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.registry import Verb
from pytest_celery_chaos.scenario import fields, tree
from pytest_celery_chaos.scenario.decode import BAD, Decoder
from pytest_celery_chaos.scenario.vocabulary import Vocabulary


def validate(verb: Verb, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that Python code gave to *verb*, as its signature wants them.

    Durations may be numbers (seconds) or text with a unit. What was left out stays left out: the verb has its
    own defaults. Names of workers, tasks and steps are not looked up here.

    :raises UsageError: an argument is unknown, missing or of the wrong type; all of them are told.
    """
    place = tree.Place(verb.name, 0, 0)
    decoder = Decoder(Vocabulary())
    node = tree.Mapping(
        place, {name: tree.wrap(value, place) for name, value in given.items()}, dict.fromkeys(given, place)
    )
    args = decoder.fields(node, fields.of_verb(verb), verb.name)
    if args is BAD:
        told = decoder.problems.found
        raise UsageError("; ".join(each.what for each in told), hint="; ".join(each.hint for each in told if each.hint))
    return dict(args)


def read(decoder: Decoder, verb: Verb, node: tree.Node) -> Any:
    """The arguments that a file gives to *verb*: a mapping, nothing, or one bare value for the argument that it means.

    :returns: the arguments by name, or BAD with the problems told.
    """
    known = fields.of_verb(verb)
    if tree.is_null(node) or isinstance(node, tree.Mapping):
        return decoder.fields(node, known, verb.name)
    name = fields.shorthand(known)
    if name is None or not isinstance(node, tree.Scalar | tree.Given | tree.Sequence):
        hint = f"arguments: {', '.join(known.items)}" if known.items else f"write `{verb.name}:` alone"
        return decoder.wrong(node, f"{verb.name}: expected a mapping of arguments", hint)
    value = decoder.read(node, known.items[name].annotation, f"{name} of {verb.name}")
    return BAD if value is BAD else {name: value}
