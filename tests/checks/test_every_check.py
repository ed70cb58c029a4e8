"""Every check of the registry is tried on histories that violate it, on a clean one, and on one that shows nothing.

The tests beside this one are run once more, and counted is what each check says in them of how many histories.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_celery_chaos.checks import CHECKS

from . import witness

HERE = Path(__file__).parent
#: Histories that are damaged at random, or large, are no examples of anything.
LEFT_OUT = ("test_every_check", "test_damage", "test_growth", "test_real_runs")
EXAMPLES = sorted(path for path in HERE.glob("test_*.py") if path.stem not in LEFT_OUT)
#: At least so many histories, by what a check says of them.
WANTED = {"violated": 3, "holds": 1, "inconclusive": 1}
#: It is never violated: what is missing leaves the run unproven.
NEVER_VIOLATED = {"exercised": {"holds": 1, "inconclusive": 4}}


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    told = tmp_path_factory.mktemp("witness") / "counts.json"
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "checks.witness", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ended = subprocess.run(
        [*command, *map(str, EXAMPLES)],
        env={**os.environ, "PYTHONPATH": path, witness.WHERE: str(told), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    found: dict[str, dict[str, int]] = json.loads(told.read_text())
    return found


@pytest.mark.parametrize("check", [name for name, verb in CHECKS.items() if verb.target.startswith("pytest_celery")])
def test_it_was_seen_to_tell_the_three_apart(counts: dict[str, dict[str, int]], check: str) -> None:
    found = counts.get(check, {})
    few = {
        outcome: f"{found.get(outcome, 0)} of {count}"
        for outcome, count in NEVER_VIOLATED.get(check, WANTED).items()
        if found.get(outcome, 0) < count
    }
    assert not few, f"{check}: histories are missing: {few}"
