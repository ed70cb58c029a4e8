"""What the benchmarks share: rounds in turn, medians, the machine's load, processes' CPU, and a worker by hand.

Every benchmark compares two ways in one run, in turn, so that what else the machine does falls on both; and prints a
control, one way against itself, that tells how far a ratio of this run can be trusted. Absolute times are printed
beside the ratios, and mean nothing on another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.find import Binary, available
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.system.ports import free_port, release_port
from pytest_celery_chaos.system.tree import descendants
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.recorded import INSIDE
from pytest_celery_chaos.workers.spec import WorkerSpec

PAUSE = 0.0005
"""Seconds between two looks by hand."""
PATIENCE = 60.0
"""Seconds until a benchmark gives up on what it waits for."""

Case = Callable[[], Any]


def parser(doc: str | None, *, rounds: int, limit: float, unit: str) -> argparse.ArgumentParser:
    """Options that every benchmark has; *limit* is the goal, above which the exit code is 1."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds, help=f"of each case, in turn (default {rounds})")
    made.add_argument("--limit", type=float, default=limit, help=f"the goal (default {limit:g} {unit})")
    made.add_argument("--json", action="store_true", help="print figures for programs")
    return made


def in_turn(cases: Mapping[str, Case], rounds: int, *, warm: int = 1) -> dict[str, list[Any]]:
    """Every case *rounds* times, each round in another order; *warm* rounds before are not counted."""
    found: dict[str, list[Any]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(-warm, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            value = cases[name]()
            if number >= 0:
                found[name].append(value)
        if sys.stderr.isatty():
            print(f"\r\x1b[2Kround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
    return found


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """The middle half of the values, ``12-15``."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{low:.0f}-{high:.0f}"


def machine() -> str:
    """What a reader must know to judge the figures."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}"


def report(asked: argparse.Namespace, lines: Sequence[str], figures: Mapping[str, Any]) -> None:
    """Print for people, or for programs."""
    if asked.json:
        print(json.dumps({"machine": machine(), "limit": asked.limit, **figures}, indent=1))
    else:
        print("\n".join([machine(), *lines]))


def server_binary() -> Binary:
    """The first installed server; ends the benchmark where there is none."""
    binaries = available()
    if not binaries:
        print("no server: run `celery-chaos servers install`", file=sys.stderr)
        sys.exit(2)
    return binaries[0]


def wait_for(probe: Callable[[], Any], what: str, *, pause: float = PAUSE, patience: float = PATIENCE) -> Any:
    """Ask until the answer is true, as a script by hand would."""
    ends = time.monotonic() + patience
    while not (answer := probe()):
        if time.monotonic() > ends:
            raise TimeoutError(f"{what}: nothing after {patience:g} s")
        time.sleep(pause)
    return answer


class HandServer:
    """A server started with subprocess, with the same configuration as the harness's."""

    def __init__(self, binary: Binary, folder: Path) -> None:
        import socket

        self.port = free_port()
        file = folder / f"{self.port}.conf"
        spec = BrokerSpec(server=binary.server)
        path = folder / f"{self.port}.sock"
        file.write_text(config.text(spec, port=self.port, socket=path, folder=folder, password=None))
        with (folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary.path, file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )

        def pong() -> bool:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(1.0)
                    connection.connect(str(path))
                    connection.sendall(b"PING\r\n")
                    return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

        wait_for(pong, "PONG", pause=0.0002)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        release_port(self.port)

    def url(self, db: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"


def application(folder: Path) -> Path:
    """A folder with the built-in application and without the recorder, for a PYTHONPATH by hand."""
    app = folder / "app"
    if not app.exists():
        app.mkdir()
        shutil.copy(INSIDE / "celery_chaos_tasks.py", app)
    return app


def hand_environment(folder: Path, server: HandServer) -> dict[str, str]:
    """What a careful person would set to point the application to *server*."""
    return {
        **os.environ,
        "PYTHONPATH": str(application(folder)),
        "CELERY_BROKER_URL": server.url(0),
        "CELERY_RESULT_BACKEND": server.url(1),
    }


def worker_line(pool: str) -> list[str]:
    """The harness's own command line for a worker of the fast profile."""
    spec = WorkerSpec("a", pool=pool, profile="fast")  # type: ignore[arg-type]
    unused: Any = None
    worker = Worker(
        spec, keeper=unused, app="builtin", settings={}, folder=Path(), control=Path(), on_exit=lambda *_: None
    )
    return worker.command_line()


@contextmanager
def process(argv: Sequence[str], *, env: Mapping[str, str], log: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own; the whole group is killed and the process reaped at the end."""
    with log.open("ab") as output:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **more}
        started = subprocess.Popen(list(argv), env=dict(env), text=True, process_group=0, **options)
    try:
        yield started
    finally:
        kill_group(started)


def kill_group(started: subprocess.Popen[Any]) -> None:
    """SIGKILL to the whole group, and wait until all its processes are gone."""
    import signal

    for pid in descendants(started.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def tree_cpu(pid: int) -> float:
    """Seconds of CPU, user and system, that a process and all that descend from it have taken so far."""
    return sum(map(_cpu, [pid, *descendants(pid)])) / 1e9


def _cpu(pid: int) -> int:
    # schedstat counts nanoseconds, `stat` ticks of 10 ms; it is of one thread, so all threads are added.
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:
            continue  # the thread has ended: what it took is lost, which no-op tasks do not make happen
    return total
