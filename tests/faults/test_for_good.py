"""What is stopped for good stays away when all is healed."""

from __future__ import annotations

import pytest
from live import Runs


@pytest.mark.parametrize("fault", ["stop", "kill"])
@pytest.mark.parametrize(("for_good", "starts"), [("false", 2), ("true", 1)])
def test_a_worker(runs: Runs, fault: str, for_good: str, starts: int) -> None:
    ran = runs(
        "workers: {a: {pool: solo}, b: {pool: solo, start: false}}\n"
        f"steps:\n- {fault}: {{worker: a, for_good: {for_good}}}\n- start: {{worker: b}}\n- send: add\n"
    )
    assert ran.verdict.value == "holds", ran
    assert len(ran.events("worker:a", "ready")) == starts
    assert len(ran.events("worker:b", "ready")) == 1
