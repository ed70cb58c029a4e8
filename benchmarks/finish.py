"""From the last event of a run to everything reaped and judged, without the server's own exit.

    python benchmarks/finish.py [--rounds 15] [--pool solo --pool prefork] [--limit 0.15] [--json]

A run of ten no-op tasks on a worker of the fast profile: the time from the last event that the worker or the client
wrote to the stored verdict. In it: seeing quiet (nothing open, broker empty), the end of worker, pool and client, the
end of the server, the merged history on disk, and judging by the checks that always apply and two of a scenario.

`server` is the server's own exit: the same binary by hand, with the same kind of data in it, from the signal to its
being reaped, which the goal leaves out. `floor` is by hand too: SIGKILL for a worker, its pool and a server at once,
until all of them are reaped; no harness can be faster than that.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from pathlib import Path

from common import (
    HandServer,
    hand_environment,
    in_turn,
    kill_group,
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
from pytest_celery_chaos.engine.plan import Expectation, Plan, Step
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.runner import conclude, finish, settle
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.workers.spec import WorkerSpec

STAGES = ("quiet", "reaped", "judged")


def by_harness(binary: Binary, session: Session, pool: str) -> dict[str, float]:
    """Milliseconds from the last event to quiet, then to everything reaped, then to the verdict."""
    plan = Plan(
        "benchmark",
        broker=BrokerSpec(server=binary.server, path=str(binary.path)),
        workers={"a": WorkerSpec("a", pool=pool, profile="fast")},  # type: ignore[arg-type]
        steps=[Step(1, "send", "workload", {"task": "add", "times": 10}, name="job")],
        expect=[Expectation("completed", {"task": "job"}), Expectation("executions", {"task": "job", "max": 1})],
    )
    run = Run(plan, session)
    try:
        run.environment.start()
        run.perform(plan.steps[0])
        settle(run)
        instants = [time.monotonic_ns()]
        ours = [event.t for event in run.live.read() if event.role in ("worker", "client")]
    finally:
        finish(run, session)
    instants.append(time.monotonic_ns())
    verdict = conclude(run, session)
    instants.append(time.monotonic_ns())
    assert verdict.value == "holds", verdict.why
    last = max(ours)
    found = {}
    for stage, instant in zip(STAGES, instants, strict=True):
        found[stage] = (instant - last) / 1e6
        last = instant
    return found


def server_exit(binary: Binary, folder: Path) -> float:
    """Milliseconds from SIGKILL to the server's being reaped."""
    server = HandServer(binary, folder)
    begin = time.monotonic()
    server.kill()
    return (time.monotonic() - begin) * 1000


def floor(binary: Binary, folder: Path, pool: str) -> float:
    """Milliseconds to kill and reap a worker, its pool and a server."""
    server = HandServer(binary, folder)
    log = folder / f"worker-{server.port}.log"
    argv = worker_line(pool)
    with process(argv, env=hand_environment(folder, server), log=log) as worker:
        wait_for(lambda: " ready." in log.read_text(errors="replace"), "worker to be ready")
        begin = time.monotonic()
        server.process.kill()
        kill_group(worker)
        server.kill()
        return (time.monotonic() - begin) * 1000


def main() -> int:
    options = parser(__doc__, rounds=15, limit=0.15, unit="s")
    options.add_argument("--pool", action="append", choices=("solo", "prefork", "threads"))
    asked = options.parse_args()
    binary = server_binary()
    lines = [f"{'pool':8} {'ms':10} {'median':>7} {'middle half':>12}   {asked.rounds} rounds"]
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folder = Path(name)
        session = Session(folder / "runs")
        try:
            for pool in asked.pool or ("solo", "prefork"):
                found = in_turn(
                    {
                        "harness": functools.partial(by_harness, binary, session, pool),
                        "server": functools.partial(server_exit, binary, folder),
                        "floor": functools.partial(floor, binary, folder, pool),
                    },
                    asked.rounds,
                )
                rows = {stage: [round_[stage] for round_ in found["harness"]] for stage in STAGES}
                rows["in all"] = [sum(round_.values()) for round_ in found["harness"]]
                rows |= {"server": found["server"], "floor": found["floor"]}
                lines += [
                    f"{pool:8} {row:10} {median(values):7.1f} {spread(values):>12}" for row, values in rows.items()
                ]
                figures[pool] = {row: median(values) for row, values in rows.items()}
                figures[pool]["counted"] = (figures[pool]["in all"] - figures[pool]["server"]) / 1000
                lines.append(
                    f"{pool:8} last event to judged, without the server's exit: {figures[pool]['counted']:.3f} s, "
                    f"{figures[pool]['counted'] / asked.limit:.2f} of the goal of {asked.limit:g} s"
                )
        finally:
            session.close()
    report(asked, lines, {"pools": figures})
    return int(max(each["counted"] for each in figures.values()) > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
