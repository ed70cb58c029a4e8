"""Verbs as another package would bring them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pytest_celery_chaos.values import Count, Duration, TaskRef, WorkerRef


def burn(run: Any, *, worker: WorkerRef, how: Literal["slow", "fast"] = "slow", lasting: Duration = 1.0) -> Any:
    """Burn a worker.

    :param worker: which.
    """


def paint(run: Any, *, colours: Sequence[Literal["red", "blue"]] = (), size: int | tuple[int, int] = 1) -> None:
    """Paint."""


def publish(
    run: Any, *, task: TaskRef, times: Count = 1, headers: Mapping[str, str] | None = None, **more: Any
) -> None:
    """Publish."""


def odd(run: Any, *, when: complex = 0j) -> None:
    """A verb whose argument no file can express."""


def pretty(history: Any, *, name: str = "x") -> None:
    """Whether it is pretty."""
