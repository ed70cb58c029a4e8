"""What the recorder costs: CPU of a worker for a no-op task, with it and without.

    python benchmarks/recorder_cost.py [--rounds 3] [--tasks 8000] [--pool solo --pool prefork] [--limit 180] [--json]

Inside one worker the recorder is taken out and put in again every 100 tasks (`switched.py`): what slows the machine for
a while falls on both, where two workers, one after the other, would differ by more than the recorder costs. Each block
with it is compared with the ones without before and behind; the control compares every second block without it with
its neighbours in the same way. Of a pool, main process and child are added. The queue is filled first and the first
blocks are not counted, so neither the start nor publishing is in it. Same command line as the harness's, results
stored; the recorder holds an (empty) page of moments, as in a run.

`--apart` starts workers with it and without it in turn instead: nothing of it is in the ones without, and the figures
are as noisy as the machine. `--late` acknowledges late. The goal of 180 µs comes from a machine where a no-op took 714
µs of a solo worker and 889 of a prefork one: so the ratio, which carries over to other machines, has goals of 0.25 and
0.20.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Mapping
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
#: Blocks of a switched worker that are not counted.
WARM_BLOCKS = 4
#: What a no-op took of a worker, in microseconds, where the goal was set.
NO_OP = {"solo": 714, "prefork": 889}


def recorder(server: HandServer, folder: Path, late: bool, extra: Mapping[str, str]) -> tuple[Gate, dict[str, str]]:
    """What a recorded worker needs: the page of moments, which holds none, and its environment."""
    ledgers = folder / "ledgers"
    ledgers.mkdir()
    settings = {"broker_url": server.url(0), "result_backend": server.url(1), "task_acks_late": late}
    gate = Gate(folder, lambda *args, **kwargs: None)  # type: ignore[arg-type, return-value]
    return gate, recorded_environment("worker:a", ledgers=ledgers, control=folder, settings=settings, extra=extra)


def switched(binary: Binary, base: Path, pool: str, tasks: int, late: bool) -> dict[str, list[float]]:
    """Microseconds of CPU a task: without the recorder, what it adds, and what nothing adds; of one worker."""
    from redis import Redis

    server = HandServer(binary, base)
    folder = base / str(server.port)
    blocks = folder / "blocks"
    blocks.mkdir(parents=True)
    more = {"BENCHMARK_BLOCKS": str(blocks), "PYTHONPATH": str(Path(__file__).parent)}
    if pool == "prefork":
        more["BENCHMARK_MAIN"] = "1"
    gate, env = recorder(server, folder, late, {**hand_environment(base, server), **more})
    fill(server, tasks)
    results = Redis.from_url(server.url(1))
    argv = ["switched:app" if each == "celery_chaos_tasks:app" else each for each in worker_line(pool)]
    try:
        with process(argv, env=env, log=folder / "worker.log"):
            wait_for(lambda: results.dbsize() >= tasks, "all tasks to be done", pause=0.05, patience=300)
    finally:
        gate.close()
        results.close()
        server.kill()
    processes = []
    for path in blocks.iterdir():
        rows = [line.split() for line in path.read_text().splitlines()][WARM_BLOCKS:]
        processes.append(rows if rows[0][0] == "1" else rows[1:])
    # Of each process the blocks of the same tasks, nearly: recorded, without, recorded …
    together = list(zip(*processes, strict=False))
    assert all({recorded for recorded, _ in each} == {"10"[at % 2]} for at, each in enumerate(together))
    sums = [sum(float(spent) for _, spent in each) for each in together]

    def beyond(at: int, neighbours: int) -> float:
        return sums[at] - (sums[at - neighbours] + sums[at + neighbours]) / 2

    return {
        "without": sums[1::2],
        "added": [beyond(at, 1) for at in range(2, len(sums) - 1, 2)],
        "nothing": [beyond(at, 2) for at in range(3, len(sums) - 2, 4)],
    }


def per_task(binary: Binary, base: Path, pool: str, tasks: int, late: bool, *, recorded: bool) -> float:
    """Microseconds of CPU that one task takes a worker that has the recorder from its start, or never."""
    from redis import Redis

    server = HandServer(binary, base)
    folder = base / str(server.port)
    folder.mkdir()
    env = hand_environment(base, server)
    if recorded:
        gate, env = recorder(server, folder, late, env)
    # By hand too: an application's own variable would do, so the built-in one is given it on the command line.
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


def apart(asked: argparse.Namespace, case: Callable[..., float]) -> dict[str, list[float]]:
    """As :func:`switched`, of workers in turn: each round's own difference."""
    plain = functools.partial(case, recorded=False)
    cases = {"without": plain, "with": functools.partial(case, recorded=True), "control": plain}
    found = in_turn(cases, asked.rounds, warm=0)
    rounds = list(zip(found["with"], found["without"], found["control"], strict=True))
    return {
        "without": [*found["without"], *found["control"]],
        "added": [recorded - (a + b) / 2 for recorded, a, b in rounds],
        "nothing": [b - a for _, a, b in rounds],
    }


def main() -> int:
    options = parser(__doc__, rounds=3, limit=180, unit="µs")
    options.add_argument("--pool", action="append", choices=("solo", "prefork", "threads"))
    options.add_argument("--tasks", type=int, default=8000)
    options.add_argument("--apart", action="store_true", help="workers with it and without it in turn")
    options.add_argument("--late", action="store_true", help="acknowledge late")
    asked = options.parse_args()
    binary = server_binary()
    lines = [f"{'pool':8} {'µs a task':10} {'median':>7} {'middle half':>12}   {asked.rounds} rounds of {asked.tasks}"]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        for pool in asked.pool or ("solo", "prefork"):
            given = (binary, Path(name), pool, asked.tasks, asked.late)
            if asked.apart:
                found = apart(asked, functools.partial(per_task, *given))
            else:
                rounds = [switched(*given) for _ in range(asked.rounds)]
                found = {row: [value for each in rounds for value in each[row]] for row in rounds[0]}
            for row, values in found.items():
                lines.append(f"{pool:8} {row:10} {median(values):7.0f} {spread(values):>12}")
            added = median(found["added"])
            ratio = added / median(found["without"])
            figures[pool] = {row: median(values) for row, values in found.items()} | {"ratio": ratio}
            goal = f", goal {asked.limit / NO_OP[pool]:.2f}" if pool in NO_OP else ""
            lines.append(
                f"{pool:8} the recorder adds {added:.0f} µs a task, {added / asked.limit:.2f} of the goal of "
                f"{asked.limit:g}; {ratio:.3f} of what a no-op takes{goal}"
            )
    report(asked, lines, {"pools": figures})
    return int(max(each["added"] for each in figures.values()) > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
