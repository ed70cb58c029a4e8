"""Ctrl-C once, twice quickly, more often, and TERM: nothing is left, and the first heals, the newest fault first."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from started import COMMAND, PYTEST, Started, run

from pytest_celery_chaos.history.store import load_history

from .conftest import OWNERS, TWO_OWNERS, are_interrupted, reach, runs_of

FAULTS = ("worker-stopped", "broker-frozen")
#: Exit codes: pytest's own for an interruption, and the command's.
INTERRUPTED = {"pytest": 2, "pytest -n 2": 2, "celery-chaos run": 130, "celery-chaos run -j 2": 130}
#: Seconds in which everything ends by itself; a machine that is busy with other things needs them.
ENDS = 20.0


def heals(folder: Path) -> list[tuple[str | None, str | None]]:
    """The faults that were healed in a run, in this order, and how each heal ended."""
    return [(event.attrs.get("name"), event.phase) for event in load_history(folder).of("heal")]


def ctrl_c(started: Started) -> None:
    """As a terminal does: to the whole foreground group. The keeper is not in it."""
    os.killpg(started.pid, signal.SIGINT)


@pytest.mark.parametrize("owner", TWO_OWNERS)
def test_one_ctrl_c_heals_and_ends_everything(owner: str, start: Callable[..., Started], suite: Path) -> None:
    started = start(*OWNERS[owner])
    reach(started, "frozen", 0.1)
    started.remember()
    ctrl_c(started)
    assert started.process.wait(ENDS) == INTERRUPTED[owner], started.output()
    started.leaves_nothing()
    are_interrupted(suite)
    healed = [heals(folder) for folder in runs_of(suite)]
    newest_first = [(name, phase) for name in reversed(FAULTS) for phase in ("invoke", "ok")]
    assert newest_first in healed
    assert all(each == newest_first[-len(each) :] for each in healed if each)
    assert "Traceback" not in started.output()


@pytest.mark.parametrize("presses", [2, pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("owner", TWO_OWNERS)
def test_more_than_one_ctrl_c_ends_everything(
    owner: str, presses: int, start: Callable[..., Started], suite: Path, moments: random.Random
) -> None:
    started = start(*OWNERS[owner])
    reach(started, "frozen", 0.1)
    started.remember()
    for press in range(presses):
        if started.process.poll() is None:
            ctrl_c(started)
        if press < presses - 1:
            reach(started, "started", moments.uniform(0, 0.2))
    code = started.process.wait(ENDS)
    # Where the second meets pytest while it ends, Python ends by the signal itself; a shell calls that 130.
    assert code == INTERRUPTED[owner] or (owner in ("pytest", "pytest -n 2") and code == -signal.SIGINT)
    started.leaves_nothing()
    are_interrupted(suite)


@pytest.mark.parametrize("phase", [*(pytest.param(p, marks=pytest.mark.soak) for p in ("started", "ready")), "frozen"])
@pytest.mark.parametrize("owner", TWO_OWNERS)
def test_term_leaves_nothing(
    owner: str, phase: str, start: Callable[..., Started], suite: Path, moments: random.Random
) -> None:
    started = start(*OWNERS[owner])
    reach(started, phase, moments.uniform(0, 0.3))
    started.remember()
    started.process.terminate()
    code = started.process.wait(ENDS)
    # pytest dies of TERM; so does the command before it has become pytest.
    assert code == -signal.SIGTERM or code == (130 if owner.startswith("celery-chaos") else None)
    if phase == "frozen" and owner == "celery-chaos run":
        assert code == 130
        assert heals(runs_of(suite)[0])[0] == ("broker-frozen", "invoke")
    started.leaves_nothing()
    are_interrupted(suite)


OWN_TEST = """
import pytest

@pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})
def test_stuck(chaos):
    chaos.pause(worker="a", name="worker-stopped")
    chaos.pause(broker="main", name="broker-frozen")
    chaos.wait(at="succeeded", timeout=60)
"""


def test_ctrl_c_in_a_test_of_ones_own_heals_and_ends_everything(start: Callable[..., Started], suite: Path) -> None:
    for scenario in suite.glob("*.chaos.yaml"):
        scenario.unlink()
    (suite / "test_own.py").write_text(OWN_TEST)
    started = start(*PYTEST)
    reach(started, "frozen", 0.1)
    started.remember()
    ctrl_c(started)
    assert started.process.wait(ENDS) == 2, started.output()
    started.leaves_nothing()
    are_interrupted(suite)
    (folder,) = runs_of(suite)
    assert heals(folder) == [(name, phase) for name in reversed(FAULTS) for phase in ("invoke", "ok")]


def test_check_says_in_json_that_a_run_was_interrupted(start: Callable[..., Started], suite: Path) -> None:
    started = start(*PYTEST)
    reach(started, "ready", 0)
    os.kill(started.pid, signal.SIGKILL)
    started.process.wait()
    started.leaves_nothing()
    checked = run(*COMMAND, "check", "--json", str(runs_of(suite)[0]), cwd=suite)
    assert checked.returncode == 6
    assert '"status": "interrupted"' in checked.stdout
