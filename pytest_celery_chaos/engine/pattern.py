"""From a moment of the file to the events that it means."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_celery_chaos.engine.plan import Moment
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.event import KINDS, POINTS, Event, Phase
from pytest_celery_chaos.history.wire import WIRE_POINTS

#: Kinds that begin and end; `at:` means their end, when it took effect.
PHASED: Final = frozenset(
    {"publish", "get", "control", "ack", "reject", "restore", "sweep", "revoke", "soft_wait", "shutdown", "store"}
    | {"send", "chord_part", "joined", "sync", "step", "fault", "heal", "quiet"}
)
#: What a moment may name a process as.
ROLES: Final = ("worker", "client", "beat")
#: Whose event a moment may be: a process's, or a link's.
SOURCES: Final = (*ROLES, "link")


@dataclass(frozen=True)
class Pattern:
    """What an event must be to count.

    :param ids: beginnings of task ids (those that one ``send`` step made), or whole ids.
    :param names: names of tasks.
    """

    kind: str
    phase: Phase | None
    source: str | None = None
    ids: Sequence[str] | None = None
    names: Sequence[str] | None = None

    def matches(self, event: Event) -> bool:
        if event.kind != self.kind or event.phase != self.phase:
            return False
        if self.source is not None and event.source != self.source:
            return False
        if self.ids is None and self.names is None:
            return True
        candidates = [event.task] if event.task else event.attrs.get("ids", ())
        if self.ids is not None and any(c.startswith(p) for c in candidates for p in self.ids):
            return True
        return self.names is not None and event.attrs.get("name") in self.names

    def rule(self, number: int, deadline: float) -> dict[str, Any]:
        """The pattern as the recorder reads it from the control page."""
        return {
            "id": number,
            "kind": self.kind,
            "phase": self.phase,
            "source": self.source,
            "ids": None if self.ids is None else list(self.ids),
            "names": None if self.names is None else list(self.names),
            "deadline": deadline,
        }


def pattern_of(moment: Moment, prefix_of: Callable[[str], str], labels: Container[str]) -> Pattern:
    """The pattern that *moment* means.

    :param prefix_of: the beginning of the ids that a ``send`` step of that name makes, or will make.
    :param labels: the names of the ``send`` steps that are known by now.
    :raises UsageError: the moment is a mere delay, or names an unknown point or event.
    """
    kind: str
    phase: Phase | None
    if moment.at is not None:
        if moment.at not in KINDS:
            raise UsageError(f"no event is called {moment.at!r}", hint=f"events: {', '.join(KINDS)}")
        kind, phase = moment.at, "ok" if moment.at in PHASED or moment.at.startswith("wire_") else None
    elif (point := moment.before or moment.after) is not None:
        points = WIRE_POINTS if moment.link else POINTS
        if point not in points:
            where = "no point of a link" if moment.link else "no point"
            raise UsageError(f"{where} is called {point!r}", hint=f"points: {', '.join(points)}")
        kind, phase = points[point][0 if moment.before else 1]
        kind = f"wire_{kind}" if moment.link else kind
    else:
        raise UsageError("a moment needs one of: before, after, at")
    source = source_of(moment)
    if moment.task is None:
        return Pattern(kind, phase, source)
    if moment.task in labels:
        return Pattern(kind, phase, source, ids=(prefix_of(moment.task),))
    # Not a step's name, or not yet one: an id, a task's name, or the name of a `send` still to come.
    return Pattern(kind, phase, source, ids=(moment.task, prefix_of(moment.task)), names=(moment.task,))


def source_of(moment: Moment) -> str | None:
    """The process or link that *moment* is about, ``worker:a``; None: any.

    :raises UsageError: it names several.
    """
    named = [f"{role}:{name}" for role in SOURCES if (name := getattr(moment, role))]
    if len(named) > 1:
        raise UsageError(f"a moment of {' and '.join(named)}", hint="name one process, or one link")
    return named[0] if named else None


def describe(moment: Moment) -> str:
    """``before run of job on worker a``: for messages, the progress line and the history."""
    if moment.delay is not None:
        return f"{moment.delay:g} s after {moment.since or 'this step'}"
    where = [part for part in (f"at {moment.at}" if moment.at else None,) if part]
    if moment.before or moment.after:
        where.append(f"{'before' if moment.before else 'after'} {moment.before or moment.after}")
    if moment.task:
        where.append(f"of {moment.task}")
    for role in SOURCES:
        if name := getattr(moment, role):
            where.append(f"on {role} {name}")
    if moment.nth != 1:
        where.append(f"(no. {moment.nth})")
    return " ".join(where)
