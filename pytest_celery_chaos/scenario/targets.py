"""Whom a fault is aimed at: one process, which was started before, and to which the fault can be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pytest_celery_chaos.engine.pattern import ROLES
from pytest_celery_chaos.scenario import fields
from pytest_celery_chaos.scenario.decode import Decoder
from pytest_celery_chaos.scenario.entries import StepEntry
from pytest_celery_chaos.scenario.model import Format

#: Faults whose signatures have all of these are done to one process.
_VICTIMS: Final = (*ROLES, "broker")
#: Values of arguments that make sense for some victims only.
_ONLY: Final = {
    ("how", "soft"): ("worker",),
    ("how", "cold"): ("worker",),
    ("data", "lose"): ("broker", "beat"),
    ("data", "cut"): ("beat",),
    ("data", "empty"): ("beat",),
    ("target", "child"): ("worker",),
}


def check_targets(steps: Sequence[StepEntry], said: Format, decoder: Decoder) -> None:
    """Add to the decoder's problems what cannot be done to whom it is meant for."""
    for entry in steps:
        step, verb = entry.step, decoder.vocabulary.verb(entry.step.verb)
        if step.family != "fault" or verb is None:
            continue
        # Where the broker has a default, the others narrow down what is done to it.
        if set(_VICTIMS) <= fields.of_verb(verb).items.keys() and verb.parameters["broker"].default is None:
            _check_victim(entry, decoder)
        if step.verb == "hold" and step.when is None:
            decoder.problems.add(entry.place, "hold without a moment", "add when: {before: POINT}")
        if step.heal_after is not None and verb.function.__annotations__.get("return") in (None, "None"):
            decoder.problems.add(entry.at("for"), f"for: {step.verb} has nothing that heals", "remove it")
    for role in ROLES:
        _check_started(role, getattr(said, f"{role}s"), steps, decoder)


def _check_victim(entry: StepEntry, decoder: Decoder) -> None:
    step = entry.step
    given = [role for role in _VICTIMS if step.args.get(role) is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "none of " + ", ".join(_VICTIMS)
        decoder.problems.add(entry.place, f"{step.verb} names {what}", f"name one: `{step.verb}: {{worker: NAME}}`")
        return
    for (key, value), victims in _ONLY.items():
        if step.args.get(key) == value and given[0] not in victims:
            what = f"{step.verb}: {key}: {value} cannot be done to a {given[0]}"
            decoder.problems.add(entry.at(key), what, f"it is for: {', '.join(victims)}")


def _check_started(role: str, listed: Any, steps: Sequence[StepEntry], decoder: Decoder) -> None:
    """A process that is broken was started before."""
    ready = {name for name, given in listed.items() if given.get("start", True)}
    later = {entry.step.args.get(role) for entry in steps if entry.step.verb in ("start", "restart")}
    for entry in steps:
        step, name = entry.step, str(entry.step.args.get(role))
        if step.verb in ("start", "restart"):
            ready.add(name)
        elif step.family == "fault" and name in listed.keys() - ready:
            if step.when is not None and name in later:
                continue  # its moment comes after the start
            what = f"{step.verb}: {role} {name!r} has not been started here"
            hint = f"add `- start: {{{role}: {name}}}` above, or remove start: false"
            decoder.problems.add(entry.at(role), what, hint)
