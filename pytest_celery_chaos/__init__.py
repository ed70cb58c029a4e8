"""Chaos testing for Celery on Redis and Valkey: real servers, real workers, real faults, judged by the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.chaos import Chaos as Chaos
    from pytest_celery_chaos.errors import ChaosError as ChaosError
    from pytest_celery_chaos.history.event import Event as Event
    from pytest_celery_chaos.history.log import History as History
    from pytest_celery_chaos.history.verdict import Verdict as Verdict

__version__ = "0.1.0"

_PUBLIC = {
    "Chaos": "pytest_celery_chaos.engine.chaos",
    "ChaosError": "pytest_celery_chaos.errors",
    "Event": "pytest_celery_chaos.history.event",
    "History": "pytest_celery_chaos.history.log",
    "Verdict": "pytest_celery_chaos.history.verdict",
}

__all__ = ["Chaos", "ChaosError", "Event", "History", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    # Resolved at first use: pytest imports this package in every run, also where no test uses it.
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
