"""What standing in the way costs: no-op tasks a second through the idle proxy, of the same directly.

    python benchmarks/proxy.py [--rounds 5] [--tasks 2000] [--pool solo --pool prefork] [--armed] [--limit 0.8] [--json]

The queue is filled first, then a worker of the fast profile is started on it; the clock runs from the 200th result to
the last. Results are stored. Rounds alternate, with a second direct path as the control: single rounds spread by a
fifth. `--armed` adds a case with a rule that means none of the tasks, so that every command is looked at before it is
sent on, and one with a timeline of every unit. The goal is a ratio that may not be fallen short of.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import (
    HandServer,
    hand_environment,
    in_turn,
    median,
    parser,
    process,
    report,
    server_binary,
    spread,
    tree_cpu,
    wait_for,
    worker_line,
)
from recorder_cost import WARM, fill

from pytest_celery_chaos.brokers.find import Binary
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system.keeper import Keeper

Prepare = Callable[[Proxy], object]


def direct(binary: Binary, base: Path, pool: str, tasks: int) -> tuple[float, float]:
    """Tasks a second, and no CPU of a proxy."""
    server = HandServer(binary, base)
    try:
        return measure(server, base, pool, tasks, server.port, lambda: 0.0)
    finally:
        server.kill()


def proxied(keeper: Keeper, binary: Binary, base: Path, pool: str, tasks: int, prepare: Prepare) -> tuple[float, float]:
    """Tasks a second, and µs of the proxy's CPU that one takes."""
    server = HandServer(binary, base)
    folder = base / f"proxy-{server.port}"
    folder.mkdir()
    try:
        with Proxy(keeper, folder, folder) as proxy:
            port = proxy.link("bench", base / f"{server.port}.sock")
            prepare(proxy)
            return measure(server, base, pool, tasks, port, lambda: tree_cpu(proxy.child.pid))
    finally:
        server.kill()


def measure(
    server: HandServer, base: Path, pool: str, tasks: int, port: int, cpu: Callable[[], float]
) -> tuple[float, float]:
    from redis import Redis

    fill(server, tasks)
    env = hand_environment(base, server)
    for name, db in (("CELERY_BROKER_URL", 0), ("CELERY_RESULT_BACKEND", 1)):
        env[name] = f"redis://127.0.0.1:{port}/{db}"
    results = Redis.from_url(server.url(1))
    try:
        with process(worker_line(pool), env=env, log=base / "worker.log"):
            done = wait_for(lambda: (n := results.dbsize()) >= WARM and n, "first tasks to be done", pause=0.005)
            began, before = time.monotonic(), cpu()
            wait_for(lambda: results.dbsize() >= tasks, "all tasks to be done", pause=0.005)
            seconds, spent = time.monotonic() - began, cpu() - before
        return (tasks - done) / seconds, spent / (tasks - done) * 1e6
    finally:
        results.close()


def main() -> int:
    options = parser(__doc__, rounds=5, limit=0.8, unit="of direct")
    options.add_argument("--pool", action="append", choices=("solo", "prefork"))
    options.add_argument("--tasks", type=int, default=2000)
    options.add_argument("--armed", action="store_true", help="measure armed rules and a timeline too")
    asked = options.parse_args()
    binary, lines, figures = server_binary(), [], {}
    lines.append(f"{'pool':8} {'path':9} {'tasks/s':>8} {'middle half':>12} {'ratio':>6} {'proxy µs a task':>16}")
    prepared: dict[str, Prepare] = {"proxy": lambda proxy: None}
    if asked.armed:
        prepared["armed"] = lambda proxy: proxy.arm("hold", role="ack", task="never", when="reply")
        prepared["timeline"] = lambda proxy: proxy.timeline()
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name, Keeper() as keeper:
        base = Path(name)
        for pool in asked.pool or ("solo", "prefork"):
            plain = functools.partial(direct, binary, base, pool, asked.tasks)
            through = functools.partial(proxied, keeper, binary, base, pool, asked.tasks)
            cases = {each: functools.partial(through, how) for each, how in prepared.items()}
            found = in_turn({"direct": plain, **cases, "control": plain}, asked.rounds, warm=1)
            for path, values in found.items():
                rates = [rate for rate, _ in values]
                # Each round by itself: what slows the machine falls on all of a round.
                ratio = median([rate / base_rate for rate, (base_rate, _) in zip(rates, found["direct"], strict=True)])
                cpu = median([spent for _, spent in values])
                lines.append(f"{pool:8} {path:9} {median(rates):8.0f} {spread(rates):>12} {ratio:6.2f} {cpu:16.0f}")
                figures[f"{pool} {path}"] = {"rate": median(rates), "ratio": ratio, "proxy_us": cpu}
    report(asked, lines, {"paths": figures})
    return int(any(each["ratio"] < asked.limit for path, each in figures.items() if path.endswith("proxy")))


if __name__ == "__main__":
    sys.exit(main())
