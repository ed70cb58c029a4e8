"""How fast events are written, and how long a history takes to be read and judged.

Run: ``python benchmarks/judging.py``. Prints ratios beside times, since machines differ, and CPU seconds,
since others may be at work: judging ten times as many
events must take no more than eleven times as long. Exits with 1 where a goal is missed.

Goals: 10,000 events/s written; 100,000 events judged in 2 s; 1,000,000 in 11 times that and 1 GB.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITTEN = 50_000
SMALL, LARGE = 100_000, 1_000_000
#: Events of one task in a late-ack worker, as the recorder writes them.
PER_TASK = 13

PLAN: dict[str, Any] = {
    "scenario": "benchmark",
    "expect": [
        {"check": "completed", "args": {"task": "job", "within": 60.0}},
        {"check": "executions", "args": {"task": "job", "max": 1}},
        {"check": "overlap", "args": {"task": "job"}},
        {"check": "redelivered", "args": {"task": "job", "times": 0}},
    ],
}


def lines(count: int) -> Iterator[str]:
    """About *count* events of a run without faults, as lines of a stored history."""
    yield json.dumps({"history": 1, "run": "benchmark", "monotonic": 0, "realtime": 0})
    numbers: dict[int, int] = {}
    clock = 0

    def line(source: str, pid: int, kind: str, phase: str | None = None, task: str | None = None, **attrs: Any) -> str:
        nonlocal clock
        clock += 10_000
        numbers[pid] = numbers.get(pid, -1) + 1
        record = {"t": clock, "source": source, "kind": kind, "phase": phase, "task": task}
        record |= {"pid": pid, "n": numbers[pid], "attrs": attrs}
        return json.dumps({key: value for key, value in record.items() if value is not None}, separators=(",", ":"))

    for source, pid in (("harness", 1), ("client:main", 2), ("worker:a", 3), ("worker:a", 4)):
        yield line(source, pid, "hello", role=source.partition(":")[0], versions={"kombu": "5.7.0"})
    yield line("harness", 1, "label", label="job", prefix="0badcafe-", name="add", times=count // PER_TASK)
    yield line(
        "worker:a", 3, "ready", pool="prefork", settings={"visibility_timeout": 3600}, versions={"kombu": "5.7.0"}
    )
    for number in range(count // PER_TASK):
        task = f"0badcafe-{number:027d}"
        tag = f"5f4dcc3b-{number:027d}"
        message = {"name": "add", "tag": tag, "redelivered": False, "retries": 0}
        for phase in ("invoke", "ok"):
            yield line("client:main", 2, "publish", phase, task, name="add", queue="celery", retries=0)
        yield line("worker:a", 3, "popped", None, task, **message)
        yield line("worker:a", 3, "received", None, task, **message, eta=None)
        yield line("worker:a", 4, "started", None, task, **message)
        yield line("worker:a", 4, "returned", None, task, name="add")
        for phase in ("invoke", "ok"):
            yield line("worker:a", 4, "store", phase, task, state="SUCCESS")
        yield line("worker:a", 4, "succeeded", None, task, name="add")
        for phase in ("invoke", "ok"):
            yield line("worker:a", 3, "ack", phase, task, tag=tag, name="add")
        yield line("worker:a", 3, "settled", None, task, name="add")
        yield line("worker:a", 3, "prefetch", count=4)
    keys: dict[str, Any] = {"queues": {"celery": []}, "unacked": {}, "index": {}, "mutex": False, "results": {}}
    yield line("harness", 1, "snapshot", name="end", **keys)
    yield line("harness", 1, "quiet", "ok")
    yield line("harness", 1, "end")


def judge_one(path: str) -> None:
    """In a process of its own: read and judge, and print how long that took and how much memory."""
    from pytest_celery_chaos.checks.judge import judge
    from pytest_celery_chaos.history.log import History

    begin = time.process_time()
    history = History.load(path)
    read = time.process_time()
    verdict = judge(history, PLAN)
    judged = time.process_time()
    assert verdict.value == "holds", verdict.why
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"events": len(history), "read": read - begin, "judge": judged - read, "memory": memory}))


def measure(folder: Path, count: int) -> dict[str, float]:
    path = folder / f"{count}.ndjson"
    with path.open("w") as file:
        file.writelines(line + "\n" for line in lines(count))
    best: dict[str, float] = {}
    for _ in range(3):
        output = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True).stdout
        found: dict[str, float] = json.loads(output)
        if not best or found["read"] + found["judge"] < best["read"] + best["judge"]:
            best = found
    return best


def write(folder: Path) -> float:
    """Events a second that the harness's own ledger takes."""
    from pytest_celery_chaos.history.log import Ledger

    with Ledger(folder, "harness") as ledger:
        begin = time.process_time()
        for number in range(WRITTEN):
            ledger.emit("step", "ok", f"0badcafe-{number:027d}", index=number, verb="send", name="job", note="x" * 100)
        return WRITTEN / (time.process_time() - begin)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        rate = write(Path(name))
        print(f"load:     {os.getloadavg()[0]:.1f}; times are of CPU")
        print(f"writing:  {rate:,.0f} events/s = {rate / 10_000:.1f} times the goal of 10,000")
        small, large = measure(Path(name), SMALL), measure(Path(name), LARGE)
    took = [each["read"] + each["judge"] for each in (small, large)]
    for each, seconds in zip((small, large), took, strict=True):
        parts = f"read {each['read']:.2f} + judge {each['judge']:.2f}"
        print(f"judging:  {each['events']:>9,.0f} events in {seconds:.2f} s ({parts}), {each['memory'] / 1e6:,.0f} MB")
    ratio = took[1] / took[0]
    print(
        f"ratio:    {large['events'] / small['events']:.1f} times the events take {ratio:.1f} times as long (goal: 11)"
    )
    return int(rate < 10_000 or took[0] > 2 or ratio > 11 or large["memory"] > 1e9)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        judge_one(sys.argv[1])
    else:
        sys.exit(main())
