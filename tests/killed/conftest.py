"""A suite in which a worker behind a proxy is stopped and a broker frozen, started by pytest or by the command."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from extras import need_server
from started import COMMAND, PYTEST, Started, starter

from pytest_celery_chaos.cli import commands
from pytest_celery_chaos.system import wait

#: Everything stands still in the end: nothing but a signal ends this within a minute.
STUCK = """
scenario: A stopped worker and a frozen broker ({pool})
profile: fast
links: [a-broker, a-backend]
workers:
  a: {{pool: {pool}}}
steps:
  - send: {{task: sleep, kwargs: {{seconds: 20}}}}
    name: job
  - wait: {{at: started, task: job}}
  - pause: {{worker: a}}
    name: worker-stopped
  - pause: {{broker: main}}
    name: broker-frozen
  - wait: {{at: succeeded, task: job, timeout: 60s}}
expect:
  - completed: {{task: job}}
"""

OWNERS = {
    "pytest": PYTEST,
    "pytest -n 2": (*PYTEST, "-n", "2"),
    "celery-chaos run": (*COMMAND, "run", "."),
    "celery-chaos run -j 2": (*COMMAND, "run", ".", "-j", "2"),
}
#: One process and many; the other two are tried by hand.
TWO_OWNERS = [
    owner if owner in ("pytest", "celery-chaos run -j 2") else pytest.param(owner, marks=pytest.mark.soak)
    for owner in OWNERS
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long runs are asked for: ``-m soak``."""
    if "soak" not in (config.option.markexpr or ""):
        for item in items:
            if "soak" in item.keywords and Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="minutes long: ask for it with -m soak"))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with two scenarios."""
    need_server()
    folder = tmp_path / "suite"
    folder.mkdir()
    for pool in ("solo", "prefork"):
        (folder / f"{pool}.chaos.yaml").write_text(STUCK.format(pool=pool))
    return folder


@pytest.fixture
def start(suite: Path) -> Iterator[Callable[..., Started]]:
    with starter(suite) as start:
        yield start


@pytest.fixture
def moments() -> random.Random:
    """Where a test chooses at random; the seed is printed with a failure."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def reach(started: Started, phase: str, delay: float) -> None:
    """Wait until *started* has come to *phase*, and *delay* seconds longer.

    :param phase: ``started``, ``ready`` (a worker runs), ``stopped`` (a worker stands still) or ``frozen`` (a broker).
    """
    probes: dict[str, Callable[[], bool]] = {
        "started": lambda: True,
        "ready": lambda: any(" worker " in command for command in started.members().values()),
        "stopped": lambda: started.stopped(" worker "),
        "frozen": lambda: started.stopped("-server"),
    }
    wait.until(probes[phase], what=f"the suite to be {phase}", timeout=60, every=0.02, last=started.output)
    wait.until(_later(delay), what="the moment", timeout=delay + 5, every=0.002)


def _later(delay: float) -> Callable[[], bool]:
    import time

    due = time.monotonic() + delay
    return lambda: time.monotonic() >= due


def runs_of(suite: Path) -> list[Path]:
    store = suite / ".celery-chaos" / "runs"
    return [folder for folder in sorted(store.iterdir()) if folder.is_dir()] if store.is_dir() else []


def are_interrupted(suite: Path) -> None:
    """Every run says that it was interrupted, and is inconclusive when it is judged again."""
    for folder in runs_of(suite):
        about = json.loads((folder / "run.json").read_text())
        assert about["status"] == "interrupted", about
        checked = CliRunner().invoke(commands, ["check", str(folder)])
        assert checked.exit_code == 6, checked.output
        assert "inconclusive" in checked.output
        assert "the run is interrupted" in checked.output
