"""``kill -9`` of pytest, of xdist's controller, of the command, at any moment: two seconds later nothing is left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from started import COMMAND, Started, run

from .conftest import OWNERS, TWO_OWNERS, are_interrupted, reach, runs_of

#: What the suite has come to, and up to how many seconds later it is killed.
PHASES = {"started": 2.5, "ready": 1.0, "stopped": 0.1, "frozen": 0.3}


def kill(start: Callable[..., Started], suite: Path, owner: str, phase: str, delay: float) -> float:
    """Start the suite, kill its owner at the moment, and see what is left; after how many seconds it was killed."""
    begun = time.monotonic()
    started = start(*OWNERS[owner])
    reach(started, phase, delay)
    after = time.monotonic() - begun
    started.remember()
    os.kill(started.pid, signal.SIGKILL)
    started.process.wait()
    started.leaves_nothing()
    are_interrupted(suite)
    return after


@pytest.mark.parametrize("phase", ["started", "ready", "frozen"])
@pytest.mark.parametrize("owner", TWO_OWNERS)
def test_kill_9_leaves_nothing(
    owner: str, phase: str, start: Callable[..., Started], suite: Path, moments: random.Random
) -> None:
    kill(start, suite, owner, phase, moments.uniform(0, PHASES[phase]))
    if phase == "frozen":
        folder = runs_of(suite)[0]
        checked = run(*COMMAND, "check", str(folder), cwd=suite)
        assert (checked.returncode, checked.stderr) == (6, "")


@pytest.mark.soak
@pytest.mark.parametrize("owner", OWNERS)
def test_kill_9_at_thirty_moments_leaves_nothing(
    owner: str, start: Callable[..., Started], suite: Path, moments: random.Random
) -> None:
    # On a slow machine it takes longer until there is anything to kill.
    ranges = {**PHASES, "started": max(PHASES["started"], kill(start, suite, owner, "ready", 0))}
    for number in range(29):
        phase = (*PHASES, "started", "ready")[number % 6]
        delay = moments.uniform(0, ranges[phase])
        print(f"{number}: {delay:.3f} s after {phase}")
        kill(start, suite, owner, phase, delay)
    assert len(runs_of(suite)) > 20
