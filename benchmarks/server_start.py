"""How much the harness adds to the start of a server: from its exec to its first PONG, against the same by hand.

    python benchmarks/server_start.py [--rounds 60] [--limit 1.2] [--json]

By hand is what a shell script would do: start the same binary with the same configuration, connect until PING is
answered, as often as the harness asks (without a pause, a busy machine has no core left for the server). Both are
done in turn, in one run, so that what else the machine does falls on both. `exec` counts from right before the process
is made, on both sides; `call` counts the harness's from the call of `start()`, with its folder, its configuration file
and the way to the keeper. Exit code 1 where the ratio of `exec` is above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.find import Binary, available
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.system.ports import free_port

PAUSE = 0.0002
"""Seconds between two PINGs by hand."""


def by_hand(binary: Binary, folder: Path) -> float:
    """Start it with subprocess, ask it through its port; milliseconds to PONG."""
    port = free_port()
    file = folder / f"{port}.conf"
    spec = BrokerSpec(server=binary.server)
    file.write_text(config.text(spec, port=port, socket=folder / f"{port}.sock", folder=folder, password=None))
    with (folder / "by-hand.log").open("ab") as log:
        begin = time.monotonic_ns()
        process = subprocess.Popen([binary.path, file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        while not _pong(port):
            time.sleep(PAUSE)
        now = time.monotonic_ns()
    process.kill()
    process.wait()
    return (now - begin) / 1e6


def by_harness(binary: Binary, folder: Path, keeper: Keeper) -> tuple[float, float]:
    """Milliseconds to PONG from the call, and from right before the exec."""
    spec = BrokerSpec(server=binary.server, path=str(binary.path))
    server = LocalServer(spec, keeper, folder, folder / "harness.log")
    called = time.monotonic_ns()
    server.start()
    now = time.monotonic_ns()
    assert server.child is not None
    started = server.child.started
    server.close()
    return (now - called) / 1e6, (now - started) / 1e6


def _pong(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def measure(binary: Binary, rounds: int, keeper: Keeper) -> dict[str, object]:
    hand: list[float] = []
    harness: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folder = Path(name)
        for number in range(rounds + 2):
            if number % 2:
                hand.append(by_hand(binary, folder))
                harness.append(by_harness(binary, folder, keeper))
            else:
                harness.append(by_harness(binary, folder, keeper))
                hand.append(by_hand(binary, folder))
    theirs = statistics.median(hand[2:])  # the first two of each have warmed the caches
    row: dict[str, object] = {"server": f"{binary.server} {binary.version}", "rounds": rounds}
    for index, since in enumerate(("call", "exec")):
        ours = statistics.median(times[index] for times in harness[2:])
        row[since] = {"by_hand_ms": round(theirs, 2), "harness_ms": round(ours, 2), "ratio": round(ours / theirs, 3)}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--limit", type=float, default=1.2, help="highest ratio from the exec")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    binaries = available()
    if not binaries:
        print("no server: run `celery-chaos servers install`", file=sys.stderr)
        return 2
    with Keeper() as keeper:
        rows = [measure(binary, asked.rounds, keeper) for binary in binaries]
    if asked.json:
        print(json.dumps({"cpus": os.cpu_count(), "limit": asked.limit, "rows": rows}, indent=1))
    else:
        print(f"{'server':16} {'since':5} {'by hand':>10} {'harness':>10} {'ratio':>7}   medians of {asked.rounds}")
        for row in rows:
            for since in ("call", "exec"):
                figures = row[since]
                assert isinstance(figures, dict)
                print(
                    f"{row['server']:16} {since:5} {figures['by_hand_ms']:7.2f} ms {figures['harness_ms']:7.2f} ms "
                    f"{figures['ratio']:7.3f}"
                )
    ratios = [row["exec"]["ratio"] for row in rows if isinstance(row["exec"], dict)]
    return int(max(ratios) > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
