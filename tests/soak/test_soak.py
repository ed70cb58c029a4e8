"""Soaks, for real: the seed decides what happens, and a loss that no fault explains is found among thousands.

The short one runs with the other tests; those at full size are marked `soak`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from planted.plans import Outcome

from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.scenario.compile import plans_of
from pytest_celery_chaos.scenario.soak import Soak, soak

BUGS = Path(__file__).parent / "bugs"
FULL = Soak(1)
SHORT = Soak(1, tasks=600, clients=2, workers=3, faults=4, duration=8.0)
CarryOut = Callable[[Plan], Outcome]


def plan_of(asked: Soak, folder: Path) -> Plan:
    file = folder / f"soak-{asked.seed}.chaos.yaml"
    file.write_text(soak(asked))
    (plan,) = plans_of(file)
    return plan


def swallowing(plan: Plan, every: int, folder: Path) -> Plan:
    """The plan with workers that lose one message in so many."""
    env = {
        "PYTHONPATH": os.pathsep.join([str(BUGS), os.environ.get("PYTHONPATH", "")]),
        "SWALLOW_EVERY": str(every),
        "SWALLOW_COUNTER": str(folder / "counter"),
    }
    bad = {
        name: replace(spec, env=env, options=[*spec.options, "--include", "swallows_one_in"])
        for name, spec in plan.workers.items()
    }
    return replace(plan, workers=bad)


def test_a_short_soak_loses_nothing_that_no_fault_explains(carry_out: CarryOut, tmp_path: Path) -> None:
    done = carry_out(plan_of(SHORT, tmp_path))
    assert done.verdict.value == "holds", done.story()
    assert len(done.history.of("publish", "ok")) == 600
    assert len(done.history.of("fault", "ok")) == 4


def test_a_short_soak_finds_the_losses_that_no_fault_explains(carry_out: CarryOut, tmp_path: Path) -> None:
    done = carry_out(swallowing(plan_of(SHORT, tmp_path), 200, tmp_path))
    outcome, seen = done.of("lost").finding.outcome, done.of("lost").finding.seen
    assert outcome == "violated", done.story()
    assert seen is not None
    assert 2 <= seen <= 3  # the counter goes on in messages that come back


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_thousand_tasks_and_forty_faults(seed: int, carry_out: CarryOut, tmp_path: Path) -> None:
    done = carry_out(plan_of(replace(FULL, seed=seed), tmp_path))
    assert done.verdict.value == "holds", done.story()
    assert len(done.history.of("fault", "ok")) == 40
    assert len({event.task for event in done.history.of("publish", "invoke")}) == 20_000


@pytest.mark.soak
def test_one_loss_in_five_thousand_is_found_among_them(carry_out: CarryOut, tmp_path: Path) -> None:
    done = carry_out(swallowing(plan_of(FULL, tmp_path), 5000, tmp_path))
    assert len(done.history.of("fault", "ok")) == 40
    outcome, seen = done.of("lost").finding.outcome, done.of("lost").finding.seen
    assert outcome == "violated", done.story()
    assert seen == 4
