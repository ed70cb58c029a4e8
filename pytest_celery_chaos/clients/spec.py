"""What a scenario says of a client, and of a ``celery beat``, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_celery_chaos.values import AppRef, Duration, TaskName


@dataclass(frozen=True)
class ClientSpec:
    """One process that publishes and reads results, as a web application does.

    :param name: by which steps name it.
    :param app: which of the scenario's applications it uses.
    :param start: started with the environment; else by a ``start`` step.
    :param config: Celery settings laid over the application's in this client alone.
    :param env: environment variables.
    """

    name: str
    app: AppRef = "main"
    start: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EntrySpec:
    """One entry of a beat's schedule (Celery's ``beat_schedule``); its name stands for the ids that it publishes.

    :param task: the task's name.
    :param every: seconds from one publish to the next.
    :param args: the task's positional arguments.
    :param kwargs: the task's keyword arguments.
    :param options: options of ``apply_async``: ``queue``, ``expires`` …
    :param relative: whether the times are multiples of *every* on the clock, instead of counted from the start.
    """

    task: TaskName
    every: Duration
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    relative: bool = False


@dataclass(frozen=True)
class BeatSpec:
    """One ``celery beat``. It is stopped before the run waits for quiet, which would never come.

    :param name: by which steps name it.
    :param app: which of the scenario's applications it uses.
    :param schedule: by name, what it publishes, merged over the application's own ``beat_schedule``.
    :param start: started when workers and clients are ready; else by a ``start`` step.
    :param scheduler: ``--scheduler``; default: Celery's, which keeps the schedule in a file of the run.
    :param max_interval: seconds that it sleeps at most between two looks at the schedule (``beat_max_loop_interval``).
    :param options: further command-line options, as they stand on the command line.
    :param env: environment variables.
    :param config: Celery settings laid over the application's in this process alone.
    :param celery: run it under this Celery version (``5.5``), in an environment made for it; None: the installed one.
    """

    name: str
    app: AppRef = "main"
    schedule: Mapping[str, EntrySpec] = field(default_factory=dict)
    start: bool = True
    scheduler: str | None = None
    max_interval: Duration | None = None
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    celery: str | None = None
