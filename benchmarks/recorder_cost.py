"""What the recorder costs: CPU of a worker for a no-op task, with it and without.

    python benchmarks/recorder_cost.py [--rounds 5] [--tasks 2000] [--pool solo --pool prefork] [--limit 180] [--json]

The queue is filled first, then a worker of the fast profile is started on it; the user and system time of its whole
process tree is read once 200 tasks are done, and again when all are. So neither its start nor the publishing counts.
Same command line, same application, results stored; the recorder holds an (empty) page of moments, as in a run.
`--late` acknowledges late. CPU time rather than rates: it hardly depends on what else the machine does.
"""

from __future__ import annotations

import functools
import sys
import tempfile
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

from pytest_celery_chaos.brokers.find import Binary
from pytest_celery_chaos.engine.gate import Gate
from pytest_celery_chaos.history.ledger import Tail
from pytest_celery_chaos.workers.recorded import recorded_environment

WARM = 200


def per_task(binary: Binary, base: Path, pool: str, tasks: int, late: bool, *, recorded: bool) -> float:
    """Microseconds of CPU that one task takes the worker."""
    from redis import Redis

    server = HandServer(binary, base)
    folder = base / str(server.port)
    (folder / "ledgers").mkdir(parents=True)
    env = hand_environment(base, server)
    settings = {"broker_url": server.url(0), "result_backend": server.url(1)}
    if late:
        # By hand too: an application's own variable would do, so the built-in one is given it on the command line.
        settings["task_acks_late"] = True  # type: ignore[assignment]
    if recorded:
        gate = Gate(folder, lambda *args, **kwargs: None)  # type: ignore[arg-type, return-value]
        env = recorded_environment("worker:a", ledgers=folder / "ledgers", control=folder, settings=settings, extra=env)
    options = ["--", "task.acks_late=true"] if late and not recorded else []
    fill(server, tasks)
    results = Redis.from_url(server.url(1))
    argv = [*worker_line(pool), *options]
    try:
        with process(argv, env=env, log=folder / "worker.log") as worker:
            done = wait_for(lambda: (n := results.dbsize()) >= WARM and n, "first tasks to be done", pause=0.002)
            before = tree_cpu(worker.pid)
            wait_for(lambda: results.dbsize() >= tasks, "all tasks to be done", pause=0.002)
            spent = tree_cpu(worker.pid) - before
        if recorded:
            gate.close()
            with Tail(folder / "ledgers") as tail:
                begun = sum(event.kind == "started" for event in tail.read())
            assert begun == tasks, f"{begun} of {tasks} tasks were recorded"
        return spent / (tasks - done) * 1e6
    finally:
        results.close()
        server.kill()


def fill(server: HandServer, tasks: int) -> None:
    """Publish *tasks* no-op tasks in kombu's own way, from here."""
    from celery import Celery

    app = Celery("bench", broker=server.url(0), backend=server.url(1), set_as_current=False)
    with app.producer_or_acquire() as producer:
        for _ in range(tasks):
            app.send_task("add", (1, 1), producer=producer, ignore_result=False)
    app.close()


def main() -> int:
    options = parser(__doc__, rounds=5, limit=180, unit="µs")
    options.add_argument("--pool", action="append", choices=("solo", "prefork", "threads"))
    options.add_argument("--tasks", type=int, default=2000)
    options.add_argument("--late", action="store_true", help="acknowledge late")
    asked = options.parse_args()
    binary = server_binary()
    lines = [f"{'pool':8} {'µs a task':10} {'median':>7} {'middle half':>12}   {asked.rounds} rounds of {asked.tasks}"]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        for pool in asked.pool or ("solo", "prefork"):
            case = functools.partial(per_task, binary, Path(name), pool, asked.tasks, asked.late)
            plain = functools.partial(case, recorded=False)
            found = in_turn(
                {"without": plain, "with": functools.partial(case, recorded=True), "control": plain},
                asked.rounds,
                warm=0,
            )
            # Each round's own difference: what slows the machine (its clock, its caches) falls on all of a round.
            added = [w - (a + b) / 2 for w, a, b in zip(found["with"], found["without"], found["control"], strict=True)]
            noise = [b - a for a, b in zip(found["without"], found["control"], strict=True)]
            for row, values in (*found.items(), ("added", added), ("noise", noise)):
                lines.append(f"{pool:8} {row:10} {median(values):7.0f} {spread(values):>12}")
            ratio = median(found["with"]) / median(found["without"] + found["control"])
            # What else a shared machine does only ever adds: the least of each is nearest to what each costs by itself.
            least = min(found["with"]) - min(found["without"] + found["control"])
            figures[pool] = {row: median(values) for row, values in found.items()}
            figures[pool] |= {"added": median(added), "ratio": ratio, "added_least": least}
            lines.append(
                f"{pool:8} the recorder adds {median(added):.0f} µs a task (ratio {ratio:.2f}), "
                f"{median(added) / asked.limit:.2f} of the goal of {asked.limit:g}; of the least {least:.0f}"
            )
    report(asked, lines, {"pools": figures})
    return int(max(each["added"] for each in figures.values()) > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
