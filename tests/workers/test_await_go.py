"""A worker in a container imports Celery while its servers start: it waits for its turn, and is what it would be."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.system.keeper import Child, Keeper
from pytest_celery_chaos.workers.container import GO
from pytest_celery_chaos.workers.recorded import recorded_environment

SETTINGS = {"broker_url": "redis://127.0.0.1:1/0", "result_backend": "redis://127.0.0.1:1/1"}
TELL = """
import sys
before = sorted(each for each in sys.modules if each.startswith("celery."))
import celery.app.base, json, os
print(json.dumps({
    "before": before, "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "name": __name__,
    "environ": {k: v for k, v in os.environ.items() if k != "CELERY_CHAOS_FIRST_PID"},
    "broker": celery.Celery("x").conf.broker_url,
}))
"""


class Script:
    """A script called *name*, started with the recorder inside."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self.keeper, self.folder = keeper, folder
        (folder / "ledgers").mkdir()

    def start(self, name: str, **more: str) -> Child:
        (self.folder / name).write_text(TELL)
        (self.folder / "log").unlink(missing_ok=True)
        environment = recorded_environment(
            "worker:a", ledgers=self.folder / "ledgers", control=self.folder, settings=SETTINGS, extra=more
        )
        line = [sys.executable, str(self.folder / name), "-A", "app"]
        return self.keeper.spawn("worker:a", line, env=environment, cwd=self.folder, log=self.folder / "log")

    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self.folder / "log").read_text().splitlines()[-1])
        return said


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    with Keeper() as keeper:
        yield Script(keeper, tmp_path)


def test_it_waits_having_imported_celery_and_then_finds_no_other_difference(script: Script, tmp_path: Path) -> None:
    script.start("celery").wait(20)
    alone = script.said()
    assert alone["broker"] == SETTINGS["broker_url"]
    written = len(list((tmp_path / "ledgers").iterdir()))
    child = script.start("celery", **{GO: str(tmp_path / "go")})
    time.sleep(0.5)
    assert child.alive
    assert (tmp_path / "log").read_text() == ""
    assert len(list((tmp_path / "ledgers").iterdir())) == written
    (tmp_path / "go").touch()
    assert child.wait(20).code == 0
    waited = script.said()
    assert (alone.pop("before"), "celery.worker.consumer" in waited.pop("before")) == ([], True)
    assert waited == alone
    (ledger,) = [path for path in (tmp_path / "ledgers").iterdir() if f".{child.pid}." in path.name]
    first = json.loads(ledger.read_text().splitlines()[0])
    assert (first["kind"], first["source"], first["attrs"]["role"]) == ("hello", "worker:a", "main")


def test_started_again_it_does_not_wait(script: Script, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    assert script.start("celery", **{GO: str(tmp_path / "go")}).wait(20).code == 0


def test_a_program_before_it_does_not_wait_nor_import_anything(script: Script, tmp_path: Path) -> None:
    assert script.start("migrate", **{GO: str(tmp_path / "go")}).wait(20).code == 0
    assert script.said()["before"] == []
    assert GO not in script.said()["environ"]
