"""``kill -9`` of a process that has containers, at any moment: fifteen seconds later nothing of its is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import engine_needed

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.engine import LABEL, connect

IMAGE = "valkey/valkey:8.1"
#: Says its label before anything is made, then makes, breaks and unmakes servers until it is killed.
SCRIPT = """
import sys
from pathlib import Path
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.session import Session
folder = Path(sys.argv[1])
session = Session(folder)
print(session.engine.label, flush=True)
for n in range(20):
    a = session.provide(BrokerSpec(f"a{n}", image=sys.argv[2]), folder / "a", folder / "a.log")
    a.start()
    b = session.provide(BrokerSpec(f"b{n}", image=sys.argv[2], persistence="rdb"), folder / "b", folder / "b.log")
    b.start()
    b.pause()
    a.recreate()
    a.close()
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Any]:
    engine_needed(IMAGE)
    client = connect().client
    yield client
    client.close()


def left(docker: Any, label: str) -> list[str]:
    """What carries that label."""
    wanted = {"label": f"{LABEL}={label}"}
    # The engine's own lists: docker-py's objects ask for each that is listed, and it may be gone by then.
    found = [f"container {each['Names']}" for each in docker.api.containers(all=True, filters=wanted)]
    found += [f"network {each['Name']}" for each in docker.api.networks(filters=wanted)]
    return found + [f"volume {each['Name']}" for each in docker.api.volumes(filters=wanted)["Volumes"] or []]


def kill_after(docker: Any, folder: Path, seconds: float) -> bool:
    """Kill it so long after its first word, and see that all goes; whether there was anything."""
    folder.mkdir()
    argv = [sys.executable, "-c", SCRIPT, str(folder), IMAGE]
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        label = process.stdout.readline().strip()
        time.sleep(seconds)
        was_there = bool(label and left(docker, label))
        ended = process.poll()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert label, (folder / "stderr").read_text()
    assert ended is None, (folder / "stderr").read_text()
    wait.until(
        lambda: not left(docker, label), what="all to be gone", timeout=15, last=lambda: str(left(docker, label))
    )
    time.sleep(1.0)
    assert left(docker, label) == [], "made after its owner had gone"
    return was_there


def test_kill_9_leaves_nothing_and_touches_nobody_else(docker: Any, tmp_path: Path) -> None:
    other = Session(tmp_path / "other")
    try:
        server = other.provide(BrokerSpec(image=IMAGE), tmp_path / "other", tmp_path / "other.log")
        server.start()
        moments = [random.uniform(0, 6) for _ in range(3)]
        print(moments)
        there = [kill_after(docker, tmp_path / str(number), moment) for number, moment in enumerate([4.0, *moments])]
        assert there[0], "nothing was there to be left"
        assert server.ping() == "+PONG"
        assert len(left(docker, other.engine.label)) == 3  # its container, its volume, the network
    finally:
        other.close()
    assert left(docker, other.engine.label) == []


@pytest.mark.soak
def test_kill_9_at_thirty_moments_leaves_nothing(docker: Any, tmp_path: Path) -> None:
    there = []
    for number in range(30):
        moment = random.uniform(0, 8)
        print(f"{number}: {moment:.3f} s after its first word")
        there.append(kill_after(docker, tmp_path / str(number), moment))
    assert sum(there) > 20
