"""From nothing to the first task done: a fresh broker and a worker of the fast profile, against the same by hand.

    python benchmarks/first_task.py [--rounds 15] [--pool solo --pool prefork] [--limit 1.15] [--json]

By hand is what a careful person would write to have a result soon: start the server, wait for its PONG, start the
worker and a client process at once; the client publishes as soon as it can, whether the worker is ready or not, and
looks for the result's key every 5 ms, as often as the harness looks. Same server binary and configuration, same
`celery worker` command line, same application, a client process with the same Python and Celery. The one thing that is
not the same: by hand nothing is recorded and nothing is known to be ready.

`waiting` is by hand too, by a person who publishes only when the worker says that it is ready, as the harness does,
since a fault could not be placed otherwise. `control` is by hand once more: its ratio tells the noise of this run.

`spawned` is the harness with `chaos_start_method = spawn`: each worker and client imports Celery anew, as by hand.

The harness's time begins before the run's folder is made, with the keeper there (one serves a whole pytest process;
it takes about 20 ms, and is printed), and ends when its `wait` step has seen the task's success.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
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
    wait_for,
    worker_line,
)

from pytest_celery_chaos.brokers.find import Binary
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.plan import Plan, Step
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import conclude, finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.workers.spec import WorkerSpec

CLIENT = """
import sys, time
from celery_chaos_tasks import add, app
if sys.argv[1] == "waiting":
    print("up", flush=True)
    sys.stdin.readline()
from redis import Redis
task = add.delay(1, 1)
results = Redis.from_url(app.conf.result_backend)
while not results.exists("celery-task-meta-" + task.id):
    time.sleep(0.005)
print("done", flush=True)
"""


def by_hand(binary: Binary, folder: Path, pool: str, *, waiting: bool = False) -> float:
    """Milliseconds until the client has seen the result."""
    begin = time.monotonic()
    server = HandServer(binary, folder)
    env = hand_environment(folder, server)
    log = folder / f"worker-{server.port}.log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    mode = "waiting" if waiting else "at once"
    try:
        with (
            process(worker_line(pool), env=env, log=log),
            process([sys.executable, "-c", CLIENT, mode], env=env, log=folder / "client.log", **pipes) as client,
        ):
            assert client.stdout is not None
            assert client.stdin is not None
            if waiting:
                client.stdout.readline()
                wait_for(lambda: " ready." in log.read_text(errors="replace"), "worker to be ready")
                client.stdin.write("\n")
                client.stdin.flush()
            assert client.stdout.readline() == "done\n", log.read_text()
            return (time.monotonic() - begin) * 1000
    finally:
        server.kill()


def by_harness(binary: Binary, session: Session, pool: str) -> tuple[float, float]:
    """Milliseconds until all is ready, and until the success of the task has been seen."""
    plan = Plan(
        "benchmark",
        broker=BrokerSpec(server=binary.server, path=str(binary.path)),
        workers={"a": WorkerSpec("a", pool=pool, profile="fast")},  # type: ignore[arg-type]
    )
    begin = time.monotonic()
    run = Run(plan, session)
    try:
        run.environment.start()
        ready = time.monotonic()
        run.perform(Step(1, "send", "workload", {"task": "add"}, name="job"))
        run.wait_for(at="succeeded", task="job")
        return (ready - begin) * 1000, (time.monotonic() - begin) * 1000
    finally:
        finish(run, session)
        conclude(run, session)


def keeper_start(folder: Path) -> float:
    begin = time.monotonic()
    session = Session(folder)
    _ = session.keeper
    took = (time.monotonic() - begin) * 1000
    session.close()
    return took


def main() -> int:
    options = parser(__doc__, rounds=15, limit=1.15, unit="times by hand")
    options.add_argument("--pool", action="append", choices=("solo", "prefork", "threads"))
    asked = options.parse_args()
    binary = server_binary()
    lines = [f"{'pool':8} {'case':10} {'ms':>6} {'middle half':>12} {'ratio':>6}   medians of {asked.rounds}"]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folder = Path(name)
        keeper = median([keeper_start(folder) for _ in range(5)])
        session = Session(folder / "runs")
        spawning = Session(folder / "runs", start_method="spawn")
        try:
            for pool in asked.pool or ("solo", "prefork"):
                hand = functools.partial(by_hand, binary, folder, pool)
                found = in_turn(
                    {
                        "by hand": hand,
                        "harness": functools.partial(by_harness, binary, session, pool),
                        "spawned": functools.partial(by_harness, binary, spawning, pool),
                        "control": hand,
                        "waiting": functools.partial(hand, waiting=True),
                    },
                    asked.rounds,
                )
                times = {case: [v[1] if isinstance(v, tuple) else v for v in values] for case, values in found.items()}
                base = median(times["by hand"] + times["control"])
                figures[pool] = {case: median(values) for case, values in times.items()}
                figures[pool]["ratio"] = figures[pool]["harness"] / base
                for case, values in times.items():
                    ratio = median(values) / (figures[pool]["by hand"] if case == "control" else base)
                    lines.append(f"{pool:8} {case:10} {median(values):6.0f} {spread(values):>12} {ratio:6.3f}")
                ready = [value[0] for value in found["harness"]]
                lines.append(f"{pool:8} {'(ready)':10} {median(ready):6.0f} {spread(ready):>12}")
        finally:
            session.close()
            spawning.close()
    lines.append(
        f"the keeper, once a pytest process: {keeper:.0f} ms; goal: harness at most {asked.limit:g} times by hand"
    )
    report(asked, lines, {"pools": figures, "keeper_ms": keeper})
    return int(max(each["ratio"] for each in figures.values()) > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
