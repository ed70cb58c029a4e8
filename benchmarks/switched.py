"""The application of ``recorder_cost.py``: every so many tasks its worker's recorder is taken out, or put in again.

Out means that every hook is put back and nothing is written. Each process of the worker that does something for every
task counts for itself, and appends a line for each block of tasks: its CPU time, and whether it was recorded.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals

BLOCK = 100

app = Celery("switched")


class Switch:
    """Counts the tasks of this process; the hooks are in at first, as the recorder has put them."""

    def __init__(self) -> None:
        self.tasks = 0
        self.recorded = True
        self.begun = time.process_time_ns()
        self.recorder: Any = None
        self.hooks: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.out = Path(os.environ["BENCHMARK_BLOCKS"], str(os.getpid())).open("a", buffering=1)  # noqa: SIM115

    def task(self) -> None:
        self.tasks += 1
        if self.tasks % BLOCK == 0:
            spent = time.process_time_ns() - self.begun
            self.out.write(f"{int(self.recorded)} {spent / BLOCK / 1000}\n")
            self.turn()
            self.begun = time.process_time_ns()

    def turn(self) -> None:
        from celery_chaos_recorder import patches, record  # type: ignore[import-not-found]

        self.recorded = not self.recorded
        if self.recorded:
            for hook in self.hooks.values():
                patches.put(*hook)
            record._recorder = self.recorder
        else:
            self.hooks = {(id(owner), name): (owner, name, owner.__dict__[name]) for owner, name, _ in patches._done}
            patches.undo()
            self.recorder, record._recorder = record._recorder, None


_switches: dict[int, Switch] = {}


def _count(**_: Any) -> None:
    pid = os.getpid()
    if pid not in _switches:
        _switches[pid] = Switch()
    _switches[pid].task()


signals.task_prerun.connect(_count, weak=False)
if os.environ.get("BENCHMARK_MAIN"):  # the main process of a pool has its share of each task
    signals.task_received.connect(_count, weak=False)


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y
