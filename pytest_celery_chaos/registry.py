"""Where faults, workloads and checks are found by name, without importing them before they are needed.

A verb is one annotated function: its signature is the only definition of its arguments. The model of the file
format, the JSON Schema, the reference page and the fixture's method are derived from it. The first parameter is
what the verb acts on (the run, or for a check the history); all others are keyword arguments.

Third parties add theirs through entry points of the groups below: ``name = "package.module:function"``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Literal

from pytest_celery_chaos.errors import UsageError

Family = Literal["fault", "workload", "check"]

GROUPS: Mapping[Family, str] = {
    "fault": "pytest_celery_chaos.faults",
    "workload": "pytest_celery_chaos.workloads",
    "check": "pytest_celery_chaos.checks",
}


@dataclass(frozen=True)
class Verb:
    """A name that a scenario may use, and the function behind it, imported at its first use."""

    name: str
    family: Family
    target: str

    @cached_property
    def function(self) -> Callable[..., Any]:
        module, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"{self.family} {self.name!r} cannot be loaded from {self.target!r}: {error}",
                hint="reinstall the package that brings it",
            ) from error
        assert callable(found)
        return found  # type: ignore[no-any-return]

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The verb's own arguments, annotations resolved, without what it acts on."""
        # Resolved one by one: what the verb acts on, and what it returns, may be names that only type checkers import.
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {parameter.name: self._resolved(parameter) for parameter in parameters}

    def _resolved(self, parameter: inspect.Parameter) -> inspect.Parameter:
        annotation = parameter.annotation
        if isinstance(annotation, str):
            annotation = eval(annotation, self.function.__globals__)
        return parameter.replace(annotation=annotation)

    @property
    def about(self) -> str:
        """The first paragraph of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n\n")[0]


class Registry(Mapping[str, Verb]):
    """The verbs of one family: ours, and those that installed packages add."""

    def __init__(self, family: Family, ours: Mapping[str, str]) -> None:
        self.family = family
        self._ours = {name: Verb(name, family, target) for name, target in ours.items()}

    @cached_property
    def _verbs(self) -> Mapping[str, Verb]:
        theirs = {
            point.name: Verb(point.name, self.family, point.value) for point in entry_points(group=GROUPS[self.family])
        }
        clash = sorted(theirs.keys() & self._ours.keys())
        if clash:
            raise UsageError(
                f"installed package redefines the {self.family} {clash[0]!r} ({theirs[clash[0]].target})",
                hint="uninstall that package, or ask its author for another name",
            )
        return {**self._ours, **theirs}

    def __getitem__(self, name: str) -> Verb:
        return self._verbs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._verbs)

    def __len__(self) -> int:
        return len(self._verbs)
