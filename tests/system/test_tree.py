"""Whether a tree of processes stands still."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.tree import descendants, stands_still

BUSY = """
import mmap, os, subprocess, sys, threading
path, place = sys.argv[1], int(sys.argv[2])
memory = mmap.mmap(os.open(path, os.O_RDWR), 0)
if place == 0:
    subprocess.Popen([sys.executable, *sys.orig_argv[1:3], path, "1"])
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
def count():
    while True:
        memory[place] = (memory[place] + 1) % 256
threading.Thread(target=count).start()
count()
"""


def test_nobody_of_the_group_runs_any_more(tmp_path: Path) -> None:
    """Threads that run all the time, on all processors; who has left the group is not meant."""
    path = tmp_path / "counts"
    path.write_bytes(b"\0" * 2)
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(path), "0"], start_new_session=True)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as counts:
            wait.until(lambda: all(counts[:]), what="both to count", timeout=10)
            for _ in range(50):
                os.killpg(process.pid, signal.SIGSTOP)
                wait.until(lambda: stands_still(process.pid), what="both to stand still", timeout=5, every=0)
                seen = {counts[:] for _ in range(2000)}
                assert len(seen) == 1
                os.killpg(process.pid, signal.SIGCONT)
                wait.until(lambda seen=seen: counts[:] not in seen, what="them to go on", timeout=5)  # type: ignore[misc]
                assert not stands_still(process.pid)
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    assert stands_still(process.pid)
