"""A pytest plugin that writes down what each check of the registry says of how many different histories."""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_celery_chaos.checks import CHECKS

#: The environment variable that says where it is written down.
WHERE = "WITNESS"
#: By check and outcome, the histories that it was given.
_seen: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))


def _watched(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(check)
    def call(history: Any, /, **args: Any) -> Any:
        finding = check(history, **args)
        _seen[name][finding.outcome].add(hash(repr(list(history.events))))
        return finding

    return call


def pytest_configure() -> None:
    """Before the tests import their checks."""
    for verb in CHECKS.values():
        module, _, name = verb.target.partition(":")
        home = importlib.import_module(module)
        setattr(home, name, _watched(verb.name, getattr(home, name)))


def pytest_unconfigure() -> None:
    counts = {name: {outcome: len(found) for outcome, found in outcomes.items()} for name, outcomes in _seen.items()}
    Path(os.environ[WHERE]).write_text(json.dumps(counts))
