"""What pytest's user sees: outcomes, exit codes, stored runs, fixtures; and pytest without us."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run, runs


def test_the_outcome_of_each_verdict(write: Callable[..., None], in_pytest: Run) -> None:
    write("holds", "hazard", "violated", "unreached")
    done = in_pytest("-v", "-rA", ".")
    assert done.returncode == 1
    for name, outcome in {"holds": "PASSED", "hazard": "XFAIL", "violated": "FAILED", "unreached": "FAILED"}.items():
        assert re.search(rf"{outcome} {name}\.chaos\.yaml::scenario", done.stdout), done.stdout
    assert "ERROR" not in done.stdout
    assert "KF-0" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["", "-n 2"])
def test_6_where_the_worst_is_inconclusive(
    workers: tuple[str, ...], write: Callable[..., None], in_pytest: Run
) -> None:
    write("holds", "unreached")
    done = in_pytest(*workers, ".")
    assert done.returncode == 6, done.stdout
    assert "2 runs: 1 as recorded (0 known hazards), 1 inconclusive" in done.stdout


OWN = """
import pytest
pytestmark = pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})

def test_violated(chaos):
    chaos.send(task="add", args=[1, 2], name="job")
    chaos.expect.executions(task="job", exactly=2)

def test_hazard(chaos):
    chaos.send(task="add", args=[1, 2], name="job")
    chaos.expect.executions(task="job", exactly=2, hazard={"seen": 1, "ref": "KF-0", "why": "pinned here"})

def test_asked_for_late(request):
    chaos = request.getfixturevalue("chaos")
    chaos.send(task="add", args=[1, 2], name="job")
    chaos.expect.executions(task="job", exactly=2)

def test_own_failure_first(chaos):
    chaos.expect.executions(task="job", exactly=2)
    assert chaos.get(task=chaos_sends(chaos)) == 4

def chaos_sends(chaos):
    chaos.send(task="add", args=[1, 2], name="job")
    return "job"

@pytest.fixture
def broken():
    raise OSError("not of chaos")

def test_error(broken):
    pass
"""

UNREACHED = """
import pytest

@pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})
def test_unreached(chaos):
    chaos.kill(worker="a", when={"before": "reject"})
    chaos.send(task="add", args=[1, 2], name="job")
"""


def test_the_fixture_is_judged_in_the_call_phase(in_pytest: Run, folder: Path) -> None:
    (folder / "test_own.py").write_text(OWN)
    done = in_pytest("-v", "-rA", "-W", "error", ".")
    assert done.returncode == 1
    wanted = {
        "test_violated": "FAILED",
        "test_hazard": "XFAIL",
        "test_asked_for_late": "FAILED",
        "test_own_failure_first": "FAILED",
        "test_error": "ERROR",
    }
    for name, outcome in wanted.items():
        assert re.search(rf"{outcome} test_own\.py::{name}\b", done.stdout), done.stdout
    assert re.search(r"test_own_failure_first.* - AssertionError: assert 3 == 4", done.stdout)
    assert done.stdout.count("ERROR test_own.py") == 1


def test_6_for_a_test_of_ones_own_and_1_where_another_fails(in_pytest: Run, folder: Path) -> None:
    (folder / "test_unreached.py").write_text(UNREACHED)
    assert in_pytest(".").returncode == 6
    (folder / "test_error.py").write_text("def test_error(nothing_of_this_name): pass\n")
    assert in_pytest(".").returncode == 1


@pytest.mark.parametrize(
    ("rule", "kept"),
    [("all", {"holds", "violated"}), ("failed", {"violated"}), ("last:1", {"violated"}), ("last:0", set())],
)
def test_which_runs_are_kept(
    rule: str, kept: set[str], write: Callable[..., None], in_pytest: Run, folder: Path
) -> None:
    write("holds", "violated")
    (folder / "pytest.ini").write_text(f"[pytest]\nchaos_retention = {rule}\n")
    assert in_pytest(".").returncode == 1
    titles = {"a-task-ends": "holds", "a-task-runs-twice": "violated"}
    found = {name for each in runs(folder) for words, name in titles.items() if words in each.name}
    assert found == kept
    assert (folder / ".celery-chaos" / "runs" / ".gitignore").read_text().splitlines()[-1] == "*"


def test_a_rule_that_is_none_is_told_at_once(in_pytest: Run, folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nchaos_retention = last:week\n")
    done = in_pytest(".")
    assert done.returncode == 4
    assert "chaos_retention is 'last:week'" in done.stderr


def test_unfinished_runs_are_never_removed(write: Callable[..., None], in_pytest: Run, folder: Path) -> None:
    write("holds")
    (folder / "pytest.ini").write_text("[pytest]\nchaos_retention = last:0\n")
    other = folder / ".celery-chaos" / "runs" / "0-another-process"
    other.mkdir(parents=True)
    (other / "run.json").write_text('{"id": "0-another-process", "status": "running"}')
    assert in_pytest(".").returncode == 0
    assert runs(folder) == [other]


def test_the_fixtures_say_what_they_are_for(in_pytest: Run) -> None:
    done = in_pytest("--fixtures")
    assert done.returncode in (0, 5)
    ours = done.stdout.partition("fixtures defined from pytest_celery_chaos.fixtures")[2].partition("\n---")[0]
    told = re.findall(r"^(chaos\w*).*\n    (\S.*)$", ours, re.MULTILINE)
    assert [name for name, _ in told] == ["chaos", "chaos_app", "chaos_broker", "chaos_history"]
    for _, sentence in told:
        assert 40 < len(sentence) < 120
        assert sentence.endswith(".")
    assert "no docstring" not in ours


def test_pytest_works_without_us(in_pytest: Run, write: Callable[..., None], folder: Path) -> None:
    write("violated")
    (folder / "test_plain.py").write_text("def test_plain(): pass\n")
    done = in_pytest("-p", "no:celery_chaos", "-p", "no:xdist", ".")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)
    assert in_pytest("test_plain.py").stdout.count("chaos") == 0
