"""A folder of tiny scenarios, each of which comes to another end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from extras import need_server
from started import COMMAND, PYTEST, run

Run = Callable[..., subprocess.CompletedProcess[str]]

_SMALL = """
scenario: {title}
profile: fast
workers:
  a: {{pool: solo}}
steps:
{steps}
  - send: {{task: add, args: [1, 2]}}
    name: job
expect:
  - completed: {{task: job}}
{expect}
"""

_PINNED = "    hazard: {{seen: {seen}, ref: KF-0, why: a figure that is pinned for this test}}"

SCENARIOS = {
    "holds": _SMALL.format(title="A task ends", steps="", expect="  - executions: {task: job, exactly: 1}"),
    "violated": _SMALL.format(
        title="A task runs twice, says the file", steps="", expect="  - executions: {task: job, exactly: 2}"
    ),
    "hazard": _SMALL.format(
        title="A known violation",
        steps="",
        expect="  - executions: {task: job, exactly: 2}\n" + _PINNED.format(seen=1),
    ),
    "other-figure": _SMALL.format(
        title="A known violation with another figure",
        steps="",
        expect="  - executions: {task: job, exactly: 2}\n" + _PINNED.format(seen=3),
    ),
    "fixed": _SMALL.format(
        title="A known violation that is gone",
        steps="",
        expect="  - executions: {task: job, exactly: 1}\n" + _PINNED.format(seen=2),
    ),
    "unreached": _SMALL.format(
        title="A moment that never comes",
        steps="  - kill: {worker: a}\n    when: {before: reject, task: job}",
        expect="  - executions: {task: job, exactly: 1}",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to run in."""
    need_server()
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., None]:
    """Write scenarios of :data:`SCENARIOS` by name."""

    def write(*names: str) -> None:
        for name in names:
            (folder / f"{name}.chaos.yaml").write_text(SCENARIOS[name].lstrip())

    return write


@pytest.fixture
def chaos(folder: Path) -> Run:
    """Run ``celery-chaos`` in the folder."""
    return lambda *argv: run(*COMMAND, *argv, cwd=folder)


@pytest.fixture
def in_pytest(folder: Path) -> Run:
    """Run pytest in the folder."""
    return lambda *argv: run(*PYTEST, *argv, cwd=folder)


@pytest.fixture
def answer(chaos: Run) -> Callable[..., dict[str, Any]]:
    """Run ``celery-chaos … --json`` and return what it printed."""
    return lambda *argv: json.loads(chaos(*argv, "--json").stdout)


def runs(folder: Path) -> list[Path]:
    store = folder / ".celery-chaos" / "runs"
    return sorted(each for each in store.iterdir() if each.is_dir()) if store.is_dir() else []
