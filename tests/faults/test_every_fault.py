"""Every fault of the registry is shown to bite, and to heal, by a test of this folder that calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_celery_chaos.faults import FAULTS

TOLD = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("fault", [name for name, verb in FAULTS.items() if verb.target.startswith("pytest_celery")])
def test_it_is_tried(fault: str) -> None:
    assert f".chaos.{fault}(" in TOLD
