"""Types of values that a verb's signature may use, so that a scenario's text can be read and checked against it.

Each is an ordinary type with a marker beside it: the function receives a plain float or str, and who reads a
scenario learns from the marker what the text means. Standard library only: faults and checks import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from pytest_celery_chaos.errors import UsageError

RefKind = Literal[
    "task",
    "task_name",
    "worker",
    "client",
    "beat",
    "broker",
    "link",
    "app",
    "step",
    "fault",
    "point",
    "event",
    "signal",
    "wire_role",
]


@dataclass(frozen=True)
class Unit:
    """The number is a quantity of this unit; a scenario writes it with its unit (``500ms``), never bare."""

    name: Literal["seconds"]


@dataclass(frozen=True)
class Ref:
    """The text is the name of something else; a scenario that names nothing there is refused."""

    kind: RefKind


@dataclass(frozen=True)
class AtLeast:
    """The number is no smaller than this."""

    least: float


#: A whole number from 1.
Count: TypeAlias = Annotated[int, AtLeast(1)]
#: Seconds. In a scenario always with its unit: ``500ms``, ``2s``, ``1.5s``, ``5m``, ``1h``.
Duration: TypeAlias = Annotated[float, Unit("seconds")]
#: The name of a ``send`` step, a task's name, or a task's id.
TaskRef: TypeAlias = Annotated[str, Ref("task")]
#: A task that the application has, by its name.
TaskName: TypeAlias = Annotated[str, Ref("task_name")]
#: One of the scenario's workers.
WorkerRef: TypeAlias = Annotated[str, Ref("worker")]
#: One of the scenario's clients.
ClientRef: TypeAlias = Annotated[str, Ref("client")]
#: One of the scenario's ``celery beat`` processes.
BeatRef: TypeAlias = Annotated[str, Ref("beat")]
#: One of the scenario's applications; ``main`` is the one that the file's ``app`` and ``config`` describe.
AppRef: TypeAlias = Annotated[str, Ref("app")]
#: The scenario's broker or its result backend, by its name.
BrokerRef: TypeAlias = Annotated[str, Ref("broker")]
#: The way of one process to its broker or to its result backend: ``a-broker`` is worker (or client, or beat) ``a``'s.
LinkRef: TypeAlias = Annotated[str, Ref("link")]
#: What links go through: our own proxy, which speaks RESP, or Toxiproxy.
ProxyKind: TypeAlias = Literal["resp", "toxiproxy"]
#: The library by which Celery reaches its servers: redis-py, or valkey-py by ``valkey://``.
ClientLibrary: TypeAlias = Literal["redis", "valkey"]
#: Where servers and workers run: as processes of this machine, or in containers.
Provider: TypeAlias = Literal["local", "container"]
#: How a worker's Python starts: forked from one that has imported Celery, or anew. Words of multiprocessing.
StartMethod: TypeAlias = Literal["forkserver", "spawn"]
#: What a command on a link is to Celery: a key of :data:`pytest_celery_chaos.history.wire.ROLES`.
WireRoleRef: TypeAlias = Annotated[str, Ref("wire_role")]
#: The ``name`` of a step.
StepRef: TypeAlias = Annotated[str, Ref("step")]
#: The ``name`` of a step that applies a fault, or ``all``.
FaultRef: TypeAlias = Annotated[str, Ref("fault")]
#: A point of the protocol: a key of :data:`pytest_celery_chaos.history.event.POINTS`, or on a link a key of
#: :data:`pytest_celery_chaos.history.wire.WIRE_POINTS`.
PointRef: TypeAlias = Annotated[str, Ref("point")]
#: A kind of event: a key of :data:`pytest_celery_chaos.history.event.KINDS`.
EventRef: TypeAlias = Annotated[str, Ref("event")]
#: A signal, with or without ``SIG``: ``KILL``, ``TERM``, ``QUIT``, ``USR1`` …
SignalName: TypeAlias = Annotated[str, Ref("signal")]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>ms|s|m|h)", re.ASCII)
DURATION_HINT: Final = "write a number and its unit: 500ms, 2s, 1.5s, 5m, 1h"


def parse_duration(text: str) -> float:
    """The seconds that *text* (``500ms``, ``2s``, ``1.5s``, ``5m``, ``1h``) stands for.

    :raises UsageError: the text is not one number and one unit.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageError(f"{text!r} is not a duration", hint=DURATION_HINT)
    # Rounded to the nanosecond: 0.1 ms steps must not show as 0.30000000000000004 in messages.
    return round(float(found["number"]) * _SECONDS[found["unit"]], 9)
