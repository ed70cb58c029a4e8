"""The schedule of a soak: the same seed gives the same file, and every file is one that can be carried out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario.compile import plans_of
from pytest_celery_chaos.scenario.soak import DEFAULT, STRIKES, Soak, soak


def test_the_same_seed_gives_the_same_file_and_another_one_another() -> None:
    assert soak(Soak(7)) == soak(Soak(7))
    assert soak(Soak(7)) != soak(Soak(8))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strikes", [(), *((name,) for name in STRIKES)], ids=lambda names: "-".join(names) or "all")
def test_every_schedule_can_be_carried_out(seed: int, strikes: tuple[str, ...], tmp_path: Path) -> None:
    asked = Soak(seed, tasks=1001, faults=25, strikes=strikes)
    file = tmp_path / "soak.chaos.yaml"
    file.write_text(soak(asked))
    (plan,) = plans_of(file)
    assert sum(step.args["times"] for step in plan.steps if step.verb == "send") == 1001
    faults = [step for step in plan.steps if step.family == "fault"]
    assert len(faults) == 25
    assert {str(step.name).rsplit("-", 1)[0] for step in faults} <= set(strikes or DEFAULT)
    awaited: set[str] = set()
    broken: dict[str, str] = {}
    for step in plan.steps:
        if step.verb == "wait" and step.args.get("healed"):
            awaited.add(step.args["healed"])
        elif step.family == "fault":
            [link] = step.args.get("link") or [""]
            victim = step.args.get("worker") or link.partition("-")[0] or step.args.get("broker", "main")
            assert victim not in broken or broken[victim] in awaited, (
                f"{step.name} strikes {victim} before it is healed"
            )
            if step.heal_after is not None:
                broken[victim] = str(step.name)


def test_the_clients_share_the_tasks_and_the_workers_the_pools() -> None:
    text = soak(Soak(1, tasks=10, clients=4, workers=6, faults=0))
    assert [text.count(f"times: {share}") for share in (3, 2)] == [2, 2]
    assert [text.count(f"pool: {pool}") for pool in ("prefork", "solo", "threads")] == [3, 2, 1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"strikes": ("kil",)}, "no fault of a soak is called 'kil'"),
        ({"tasks": 0}, "a soak with tasks 0"),
        ({"duration": -1.0}, "a soak with duration -1"),
    ],
)
def test_what_cannot_be_a_soak_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        soak(replace(Soak(1), **wrong))  # type: ignore[arg-type]
