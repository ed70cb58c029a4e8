"""At a terminal one line says which step is under way, what is awaited, and for how long at most."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from started import COMMAND, clean_environment

SLOW = """
scenario: A wait of two seconds
profile: fast
workers:
  a: {pool: solo}
steps:
  - send: {task: sleep, kwargs: {seconds: 2}}
    name: job
  - wait: {at: succeeded, task: job, timeout: 30s}
    name: the-end
expect:
  - completed: {task: job}
"""


def at_a_terminal(*argv: str, cwd: Path) -> str:
    """Run a command at a terminal of its own and return all that it wrote there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        argv, cwd=cwd, env=clean_environment(TERM="xterm"), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            written += chunk
        os.close(ours)
        assert process.wait(60) == 0, written.decode()
    return written.decode()


def test_the_progress_line(folder: Path) -> None:
    (folder / "slow.chaos.yaml").write_text(SLOW)
    written = at_a_terminal(*COMMAND, "run", ".", cwd=folder)
    lines = re.findall(r"\x1b7\x1b\[K  ([^\r\n\x1b]+) \((-?\d+) s left\)\x1b8", written)
    steps = {line.partition(": ")[0] for line, _ in lines}
    assert {"start", "step 2"} <= steps
    waits = [int(left) for line, left in lines if line == "step 2: wait the-end: at succeeded of job"]
    assert len(waits) >= 5
    assert 26 <= min(waits) <= max(waits) <= 30
    assert waits == sorted(waits, reverse=True)
    after = written.rpartition("\x1b8")[2]
    assert after.startswith("\x1b[K"), "the line is gone when the run is over"
    assert all(len(line) < 80 for line, _ in lines)


def test_no_progress_line_where_nobody_looks(
    folder: Path, chaos: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (folder / "slow.chaos.yaml").write_text(SLOW)
    done = chaos("run", ".")
    assert "s left" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout
