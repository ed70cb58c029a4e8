"""What the tests of the keeper share: a keeper, and a way to find every process that a test has left."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_celery_chaos.system.keeper import Child, Keeper


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for the keeper to make its temporary folders in it."""
    folder = Path(tempfile.mkdtemp(prefix="kt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Script:
    """Runs Python code as a child of the keeper and hands back what it printed."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self.keeper, self.folder = keeper, folder
        self.log = folder / "log"

    def start(self, code: str, *argv: str, name: str = "script", **more: object) -> Child:
        options: dict[str, object] = {"env": dict(os.environ), "cwd": self.folder, "log": self.log, **more}
        return self.keeper.spawn(name, [sys.executable, "-I", "-S", "-c", code, *argv], **options)  # type: ignore[arg-type]

    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def script(keeper: Keeper, tmp_path: Path) -> Script:
    return Script(keeper, tmp_path)


def processes_with(token: str) -> list[str]:
    """All processes of the machine, zombies aside, that have *token* in their command line or environment."""
    needle = token.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if needle in command or needle in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
        except OSError:
            continue  # it ended meanwhile
    return found


def state_of(pid: int | str) -> str:
    """The state letter of a process as in ``ps``: R, S, T …; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
