"""The words that a scenario may use: the verbs of the registries, and the built-in tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pytest_celery_chaos.checks import CHECKS
from pytest_celery_chaos.faults import FAULTS
from pytest_celery_chaos.registry import Verb
from pytest_celery_chaos.workloads import WORKLOADS

#: The tasks of the application `builtin`.
BUILTIN_TASKS = (
    "add",
    "blob",
    "collect",
    "count",
    "echo",
    "fail",
    "flaky",
    "kill_worker",
    "once",
    "reject",
    "replace",
    "retry",
    "sleep",
)


@dataclass(frozen=True)
class Vocabulary:
    """Which verbs and tasks exist; the default is what is installed."""

    faults: Mapping[str, Verb] = field(default_factory=lambda: FAULTS)
    workloads: Mapping[str, Verb] = field(default_factory=lambda: WORKLOADS)
    checks: Mapping[str, Verb] = field(default_factory=lambda: CHECKS)
    tasks: Collection[str] = BUILTIN_TASKS

    def verb(self, name: str) -> Verb | None:
        """The fault or the workload of that name."""
        return self.faults.get(name) or self.workloads.get(name)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """All that a step may do, by name."""
        return {**self.faults, **self.workloads}
