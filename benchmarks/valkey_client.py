"""Task throughput through valkey:// against redis://, on one server and in one run.

    python benchmarks/valkey_client.py [--rounds 7] [--tasks 3000] [--pool solo] [--limit 0.97] [--json]

Published: tasks a second from one process. Done: the queue is filled first, then a worker of the fast profile starts
on it; counted from the 200th result on, so that its start does not count. Each client's own library is used on both
ends, results are stored. Throughput is given by wall time, and by CPU time (publisher, or the worker's process tree),
which hardly depends on what else the machine does; the ratio of a round is between neighbours in time.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from pathlib import Path

from common import (
    HandServer,
    application,
    hand_environment,
    in_turn,
    median,
    parser,
    process,
    report,
    server_binary,
    tree_cpu,
    wait_for,
    worker_line,
)

from pytest_celery_chaos import valkey
from pytest_celery_chaos.brokers.find import Binary

WARM = 200
APP = """
from pytest_celery_chaos import valkey
valkey.install()
from celery_chaos_tasks import app
"""
RATES = ("published", "done", "published, CPU", "done, CPU")


def rates(binary: Binary, base: Path, scheme: str, pool: str, tasks: int) -> dict[str, float]:
    """Tasks a second, by the names in :data:`RATES`."""
    from redis import Redis

    server = HandServer(binary, base)
    broker, backend = (f"{scheme}://127.0.0.1:{server.port}/{db}" for db in (0, 1))
    env = hand_environment(base, server) | {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": backend}
    (application(base) / "bench_app.py").write_text(APP)
    argv = ["bench_app:app" if each.startswith("celery_chaos_tasks") else each for each in worker_line(pool)]
    results = Redis.from_url(server.url(1))
    try:
        wall, cpu = fill(broker, backend, tasks)
        with process(argv, env=env, log=base / "worker.log") as worker:
            first = wait_for(lambda: (n := results.dbsize()) >= WARM and n, "first tasks to be done", pause=0.002)
            began, before = time.monotonic(), tree_cpu(worker.pid)
            wait_for(lambda: results.dbsize() >= tasks, "all tasks to be done", pause=0.002)
            worked, spent = time.monotonic() - began, tree_cpu(worker.pid) - before
        n = tasks - first
        return dict(zip(RATES, (tasks / wall, n / worked, tasks / cpu, n / spent), strict=True))
    finally:
        results.close()
        server.kill()


def fill(broker: str, backend: str, tasks: int) -> tuple[float, float]:
    """Publish no-op tasks from here; the wall and the CPU seconds that took."""
    from celery import Celery

    app = Celery("bench", broker=broker, backend=backend, set_as_current=False)
    with app.producer_or_acquire() as producer:
        app.send_task("add", (1, 1), producer=producer)  # connects
        began, before = time.monotonic(), time.process_time()
        for _ in range(tasks - 1):
            app.send_task("add", (1, 1), producer=producer)
        took = time.monotonic() - began, time.process_time() - before
    app.close()
    return took


def main() -> int:
    options = parser(__doc__, rounds=7, limit=0.97, unit="of redis://, at least")
    options.add_argument("--pool", choices=("solo", "prefork", "threads"), default="solo")
    options.add_argument("--tasks", type=int, default=3000)
    asked = options.parse_args()
    valkey.install()
    binary = server_binary()
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        case = functools.partial(rates, binary, Path(name), pool=asked.pool, tasks=asked.tasks)
        of = {
            scheme: functools.partial(case, scheme.partition(" ")[0]) for scheme in ("redis", "valkey", "redis again")
        }
        found = in_turn(of, asked.rounds, warm=0)
    lines = [f"{'tasks a second':16} {'redis://':>9} {'valkey://':>9} {'ratio':>6} {'control':>8}   {asked.pool}"]
    figures: dict[str, dict[str, float]] = {}
    for rate in RATES:
        first, ours, again = ([each[rate] for each in found[scheme]] for scheme in of)
        ratio = median([v / ((a + b) / 2) for v, a, b in zip(ours, first, again, strict=True)])
        control = median([b / a for a, b in zip(first, again, strict=True)])
        figures[rate] = {"redis": median(first + again), "valkey": median(ours), "ratio": ratio, "control": control}
        lines.append(f"{rate:16} {median(first + again):9.0f} {median(ours):9.0f} {ratio:6.3f} {control:8.3f}")
    worst = min(figures[rate]["ratio"] for rate in RATES)
    lines.append(f"the least ratio is {worst:.3f}; the goal is {asked.limit:g}")
    report(asked, lines, {"rates": figures})
    return 0 if worst >= asked.limit else 1


if __name__ == "__main__":
    sys.exit(main())
