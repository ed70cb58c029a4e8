"""Moments that cannot come: armed below their cause, or awaited above it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_celery_chaos.engine.pattern import ROLES, SOURCES
from pytest_celery_chaos.engine.plan import Moment, Step
from pytest_celery_chaos.scenario.entries import StepEntry, point_is_there
from pytest_celery_chaos.scenario.model import Format
from pytest_celery_chaos.scenario.problems import Problems
from pytest_celery_chaos.workloads import PUBLISHING

#: Events that come of a process's start or end, and the verbs that bring them about.
_STARTS: Final = frozenset({"start", "restart"})
_STARTING: Final = frozenset({"hello", "ready", "ticking", "online", "consuming"})
_ENDS: Final = frozenset({"kill", "stop", "restart"})
_ENDING: Final = frozenset({"offline", "shutdown", "signal"})
#: What makes tasks move that stood still: their events may come again.
_STIRS: Final = frozenset({"start", "restart", "resume", "heal"})


def check_moments(steps: Sequence[StepEntry], said: Format, problems: Problems) -> None:
    """Refuse a `when` whose cause stands above it alone, and a `wait` whose cause stands below it alone.

    A `when` never blocks, so that it can always stand above its cause: below, it is armed too late, or by luck.
    """
    for index, entry in enumerate(steps):
        above, below = [each.step for each in steps[:index]], [each.step for each in steps[index + 1 :]]
        if entry.step.when is not None:
            cause = _cause_above(entry.step.when, above, below, said)
            if cause is not None:
                told = _told(entry.step.when)
                problems.add(
                    entry.at("when"),
                    f"when: {told} can no longer happen here: {cause} stands above",
                    "move this step above its cause; a `when` does not block the steps below it",
                )
        elif entry.step.verb == "wait":
            _check_wait(entry, above, below, problems)


def _cause_above(moment: Moment, above: Sequence[Step], below: Sequence[Step], said: Format) -> str | None:
    """What brings the moment about, if all of that stands above the step that waits for it."""
    kind = moment.at
    if moment.delay is not None:
        return None
    if kind in _STARTING or kind in _ENDING:
        verbs = _STARTS if kind in _STARTING else _ENDS
        if any(_concerns(step, verbs, moment) for step in below):
            return None
        done = [step for step in above if _concerns(step, verbs, moment)]
        if done:
            return _named(done[-1])
        began = kind in _STARTING and any(given.get("start", True) for given in _meant(moment, said))
        return "the start of the environment" if began else None
    if moment.task is None or moment.task in _scheduled(said) or any(step.verb in _STIRS for step in below):
        return None
    if any(_causes(step, moment) for step in below):
        return None
    done = [step for step in above if _causes(step, moment)]
    return _named(done[-1]) if done else None


def _causes(step: Step, moment: Moment) -> bool:
    """Whether the step makes the moment's task do anything."""
    if "revoke" in (moment.at, moment.before, moment.after):
        return step.verb == "revoke" and moment.task == step.args.get("task")
    return step.verb in PUBLISHING and _publishes(step, moment.task)


def _publishes(step: Step, task: str | None) -> bool:
    """Whether what the step publishes is called *task*, or has a part that is."""
    if task is None:
        return False
    return task in (step.name, step.args.get("task")) or (step.name is not None and task.startswith(f"{step.name}."))


def _concerns(step: Step, verbs: frozenset[str], moment: Moment) -> bool:
    named = [(role, name) for role in ROLES if (name := getattr(moment, role)) is not None]
    return step.verb in verbs and all(step.args.get(role) == name for role, name in named)


def _meant(moment: Moment, said: Format) -> Iterator[Mapping[str, Any]]:
    """What the file says of the processes that the moment may be one of."""
    named = [role for role in ROLES if getattr(moment, role) is not None]
    for role in named or ["worker"]:
        for name, given in getattr(said, f"{role}s").items():
            if getattr(moment, role) in (None, name):
                yield given


def _scheduled(said: Format) -> set[str]:
    """Entries of the beats' schedules, and their tasks: they come again and again."""
    entries = [pair for given in said.beats.values() for pair in given.get("schedule", {}).items()]
    return {name for name, _ in entries} | {entry.task for _, entry in entries}


def _check_wait(entry: StepEntry, above: Sequence[Step], below: Sequence[Step], problems: Problems) -> None:
    args = entry.step.args
    kinds = [key for key in ("at", "before", "after", "healed", "polling") if args.get(key) is not None]
    if len(kinds) != 1:
        what = f"wait has {' and '.join(kinds)}" if kinds else "wait says no moment"
        problems.add(entry.place, what, "give exactly one of: at, before, after, healed, polling")
        return
    _check_healed(entry, above, kinds[0], problems)
    if len(named := [role for role in SOURCES if args.get(role) is not None]) > 1:
        problems.add(entry.at(named[-1]), f"wait has {' and '.join(named)}", "name one process, or one link")
    point_is_there(args, entry.at, "wait", problems)
    task = args.get("task")
    sent = any(step.verb in PUBLISHING and _publishes(step, task) and task != step.args.get("task") for step in below)
    if sent and not any(step.verb in PUBLISHING and _publishes(step, task) for step in above):
        problems.add(
            entry.at("task"),
            f"wait: {task!r} is sent below only",
            "move the wait below it: a wait blocks the steps below",
        )


def _check_healed(entry: StepEntry, above: Sequence[Step], kind: str, problems: Problems) -> None:
    """Of a wait that is for no moment: for a time, for a fault to heal by itself, or for a worker to want messages."""
    healed = entry.step.args.get("healed")
    if kind not in ("healed", "polling") and not isinstance(entry.step.args.get("after"), float):
        return
    for key in ("task", *SOURCES):
        if entry.step.args.get(key) is not None:
            problems.add(entry.at(key), f"wait: {key} goes with a moment, not with {kind}", "remove it")
    meant = [step for step in above if healed == "all" or step.name == healed]
    if healed is not None and (meant or healed == "all") and all(step.heal_after is None for step in meant):
        what = f"wait: no fault {'' if healed == 'all' else f'called {healed!r} '}above heals by itself"
        problems.add(entry.at("healed"), what, "give it a duration: `for: 2s`")


def _named(step: Step) -> str:
    place = f" (line {step.place.rsplit(':', 2)[-2]})" if step.place else ""
    return f"{step.verb} {step.name!r}{place}" if step.name else f"{step.verb}{place}"


def _told(moment: Moment) -> str:
    kind = next(key for key in ("at", "before", "after") if getattr(moment, key) is not None)
    return f"{kind} {getattr(moment, kind)}" + (f" of {moment.task!r}" if moment.task else "")
