"""What standing in the way costs: no-op tasks a second through the idle proxy, and what else could stand there.

    python benchmarks/proxy.py [--rounds 5] [--tasks 2000] [--pool solo --pool prefork] [--armed] [--json]

The queue is filled first, then a worker of the fast profile is started on it; the clock runs from the 200th result to
the last. Results are stored. Rounds alternate, with a second direct path as the control: single rounds spread by a
fifth. Beside the proxy stand a bare forwarder of bytes in C (`forwarder.c`, compiled by `cc`), which shows what being
there at all costs, and Toxiproxy's server, where either is to be had. `--armed` adds a case with a rule that means none
of the tasks, so that every command is looked at before it is sent on, and one with a timeline of every unit. The goals
are ratios that may not be fallen short of: see GOALS.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
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
from pytest_celery_chaos.errors import ServerNotFound
from pytest_celery_chaos.network import toxiproxy
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.network.toxiproxy import Toxiproxy
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.system.ports import free_port, release_port

Prepare = Callable[[Proxy], object]

#: The least that the proxy's rate may be, of another path's rate.
GOALS = {
    ("solo", "forwarder"): 0.93,
    ("prefork", "forwarder"): 0.88,
    ("solo", "toxiproxy"): 1.15,
    ("prefork", "toxiproxy"): 1.05,
}


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


def forwarded(binary: Binary, base: Path, pool: str, tasks: int) -> tuple[float, float]:
    """The same through the forwarder of bytes."""
    server, port = HandServer(binary, base), free_port()
    try:
        with process(
            [str(base / "forwarder"), str(port), str(server.port)], env={}, log=base / "forwarder.log"
        ) as child:
            return measure(server, base, pool, tasks, port, lambda: tree_cpu(child.pid))
    finally:
        server.kill()
        release_port(port)


def toxiproxied(keeper: Keeper, binary: Binary, base: Path, pool: str, tasks: int) -> tuple[float, float]:
    """The same through Toxiproxy."""
    server = HandServer(binary, base)
    try:
        with Toxiproxy(keeper, base) as proxy:
            port = proxy.link("bench", ("127.0.0.1", server.port))
            [child] = proxy.children
            return measure(server, base, pool, tasks, port, lambda: tree_cpu(child.pid))
    finally:
        server.kill()


def others(keeper: Keeper, binary: Binary, base: Path) -> dict[str, Callable[[str, int], tuple[float, float]]]:
    """What else can stand in the way here, and on stderr what cannot."""
    found: dict[str, Callable[[str, int], tuple[float, float]]] = {}
    source, compiler = Path(__file__).with_name("forwarder.c"), shutil.which("cc")
    if compiler is not None:
        subprocess.run([compiler, "-O2", "-o", base / "forwarder", source], check=True)
        found["forwarder"] = functools.partial(forwarded, binary, base)
    else:
        print("no forwarder: no C compiler", file=sys.stderr)
    try:
        toxiproxy.find()
        found["toxiproxy"] = functools.partial(toxiproxied, keeper, binary, base)
    except ServerNotFound as error:
        print(f"no toxiproxy: {error}", file=sys.stderr)
    return found


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
    lines.append(f"{'pool':8} {'path':9} {'tasks/s':>8} {'middle half':>12} {'ratio':>6} {'its µs a task':>14}")
    prepared: dict[str, Prepare] = {"proxy": lambda proxy: None}
    if asked.armed:
        prepared["armed"] = lambda proxy: proxy.arm("hold", role="ack", task="never", when="reply")
        prepared["timeline"] = lambda proxy: proxy.timeline()
    missed = False
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name, Keeper() as keeper:
        base = Path(name)
        beside = others(keeper, binary, base)
        for pool in asked.pool or ("solo", "prefork"):
            plain = functools.partial(direct, binary, base, pool, asked.tasks)
            through = functools.partial(proxied, keeper, binary, base, pool, asked.tasks)
            cases = {each: functools.partial(through, how) for each, how in prepared.items()}
            cases |= {each: functools.partial(case, pool, asked.tasks) for each, case in beside.items()}
            found = in_turn({"direct": plain, **cases, "control": plain}, asked.rounds, warm=1)
            rates = {path: [rate for rate, _ in values] for path, values in found.items()}
            for path, values in found.items():
                ratio, cpu = of_each_round(rates[path], rates["direct"]), median([spent for _, spent in values])
                row = f"{pool:8} {path:9} {median(rates[path]):8.0f} {spread(rates[path]):>12} {ratio:6.2f} {cpu:14.0f}"
                lines.append(row)
                figures[f"{pool} {path}"] = {"rate": median(rates[path]), "ratio": ratio, "path_us": cpu}
            for path, goal in {"direct": asked.limit, **{path: GOALS[pool, path] for path in beside}}.items():
                ratio = of_each_round(rates["proxy"], rates[path])
                lines.append(f"{pool:8} the idle proxy has {ratio:.2f} of {path}'s rate; the goal is {goal:g}")
                figures[f"{pool} proxy of {path}"] = {"ratio": ratio, "goal": goal}
                missed |= ratio < goal
    report(asked, lines, {"paths": figures})
    return int(missed)


def of_each_round(rates: list[float], others: list[float]) -> float:
    """The median ratio of two paths, each round by itself: what slows the machine falls on all of a round."""
    return median([rate / other for rate, other in zip(rates, others, strict=True)])


if __name__ == "__main__":
    sys.exit(main())
