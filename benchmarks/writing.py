"""How many events a second are written: by the harness's ledger, and by the recorder inside workers and clients.

    python benchmarks/writing.py [--rounds 9] [--events 20000] [--limit 10000] [--json]

The recorder's way is the one that hooks take, `emit`: it writes, then compares the page of moments, which holds one
rule that no event meets. `floor` is the bare `os.write` of a line of the same length to a file opened O_APPEND. Events
are counted per second of CPU time; reading and judging are measured by judging.py.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import in_turn, median, parser, report

from pytest_celery_chaos.engine.gate import Gate
from pytest_celery_chaos.engine.pattern import pattern_of
from pytest_celery_chaos.engine.plan import Moment
from pytest_celery_chaos.history.ledger import Ledger
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import record

TASK = "0badcafe-5c1d-4f7e-9a43-0d6a1c7b2e9f"
TAG = "5f4dcc3b-aa11-4b6e-8f00-7d7c3f1e2a90"


def rate(write: Callable[[int], object], events: int) -> float:
    begin = time.process_time()
    for number in range(events):
        write(number)
    return events / (time.process_time() - begin)


def harness(folder: Path, events: int) -> float:
    with Ledger(folder, "harness") as ledger:
        return rate(
            lambda _: ledger.emit("received", None, TASK, name="add", tag=TAG, redelivered=False, retries=0), events
        )


def recorder(folder: Path, events: int) -> float:
    control = Path(tempfile.mkdtemp(dir=folder))
    gate = Gate(control, lambda *args, **kwargs: None)  # type: ignore[arg-type, return-value]
    gate.arm(pattern_of(Moment(at="received", task="another"), lambda label: label, {"another"}), lambda *_: None)
    record.begin(str(folder), "worker:a", str(control), "test")
    try:
        return rate(
            lambda _: record.emit("received", None, TASK, name="add", tag=TAG, redelivered=False, retries=0), events
        )
    finally:
        record.end()
        gate.close()


def floor(folder: Path, events: int) -> float:
    file = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        return rate(lambda _: os.write(file, b"x" * 250 + b"\n"), events)
    finally:
        os.close(file)


def main() -> int:
    options = parser(__doc__, rounds=9, limit=10_000, unit="events/s")
    options.add_argument("--events", type=int, default=20_000)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        cases = {"harness": harness, "recorder": recorder, "floor": floor}
        found = in_turn(
            {case: functools.partial(way, Path(name), asked.events) for case, way in cases.items()}, asked.rounds
        )
    figures = {case: median(values) for case, values in found.items()}
    lines = [
        f"{case:9} {figures[case]:9,.0f} events/s of CPU = {figures[case] / asked.limit:4.1f} times the goal, "
        f"{figures[case] / figures['floor']:.2f} of the floor"
        for case in figures
    ]
    report(asked, lines, {"events_a_second": figures})
    return int(min(figures["harness"], figures["recorder"]) < asked.limit)


if __name__ == "__main__":
    sys.exit(main())
