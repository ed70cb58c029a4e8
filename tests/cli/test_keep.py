"""``--keep``: the system stays up after the run, can be reached where it says, and ends by one signal."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from started import COMMAND, PYTEST, Started, starter

from pytest_celery_chaos.system import wait


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Started]]:
    with starter(folder) as start:
        yield start


@pytest.mark.parametrize("argv", [(*COMMAND, "run", "--keep", "."), (*PYTEST, "--chaos-keep", ".")])
def test_what_is_kept_is_up_and_ends_by_one_signal(
    argv: tuple[str, ...], write: Callable[..., None], start: Callable[..., Started]
) -> None:
    write("holds")
    started = start(*argv)
    # The server writes its title over its environment: seen while it descends from the command, it is known.
    wait.until(lambda: _remembered(started), what="the end", timeout=60, every=0.05, last=started.output)
    said = started.output()
    assert started.process.returncode == 0, said
    port = int(re.search(r"still up: main: valkey \S+ on 127\.0\.0\.1:(\d+)", said)[1])  # type: ignore[index]
    worker = int(re.search(r"still up: worker a: pid (\d+)", said)[1])  # type: ignore[index]
    keeper = int(re.search(r"to end all that is still up: kill (\d+)", said)[1])  # type: ignore[index]
    assert {worker, keeper} <= started.members().keys()
    with Redis(port=port) as client:
        assert client.ping()
        assert client.keys("_kombu.binding.*")
    assert [line for line in started.left() if line.startswith("folder")]
    os.kill(keeper, signal.SIGTERM)
    started.leaves_nothing()


def _remembered(started: Started) -> bool:
    started.remember()
    return started.process.poll() is not None


def test_what_was_to_be_kept_is_ended_on_ctrl_c(write: Callable[..., None], start: Callable[..., Started]) -> None:
    write("holds")
    started = start(*COMMAND, "run", "--keep", "--times", "50", ".")
    runs = started.cwd / ".celery-chaos" / "runs"
    wait.until(lambda: any(runs.glob("*/verdict.json")), what="a run that is kept", timeout=60, every=0.02)
    started.remember()
    os.killpg(started.pid, signal.SIGINT)
    assert started.process.wait(20) == 130
    assert "still up" not in started.output()
    started.leaves_nothing()
