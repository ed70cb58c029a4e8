"""Starts pytest and ``celery-chaos`` as a user does, and sees from outside what they leave behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.tree import descendants

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
COMMAND = (str(Path(sys.executable).with_name("celery-chaos")),)

_LISTENING = "0A"
#: The command line of an xdist worker, which execnet starts.
_XDIST = "exec(eval(sys.stdin.readline()))"
_INODE = re.compile(r"socket:\[(\d+)\]")


def heed_signals() -> None:
    """What a terminal's child does: a runner started with `nohup`, or in the background, hands down ignored signals."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of a user's shell: of the test run that we are in, only where servers and Toxiproxy are found."""
    ours = ("CELERY_CHAOS_CACHE", "CELERY_CHAOS_SERVER", "CELERY_CHAOS_TOXIPROXY")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ours) or not name.startswith(("CELERY_", "PYTEST_", "COV_"))
    }
    return {**kept, **more}


def run(
    *argv: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        argv, cwd=cwd, env=env or clean_environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


class Started:
    """A command that runs, in a session of its own as under a shell, and everything that it has started.

    :ivar temp: the folder that it makes its temporary folders in; nothing else does.
    """

    def __init__(self, argv: Sequence[str], *, cwd: Path, temp: Path) -> None:
        self.cwd, self.temp = cwd, temp
        self.token = uuid.uuid4().hex
        self.said = cwd / f"said-{self.token}"
        self._seen: dict[int, int] = {}
        self._sockets: set[str] = set()
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=clean_environment(TMPDIR=str(temp), CHAOS_TEST_TOKEN=self.token),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=heed_signals,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.said.read_text(errors="replace")

    def remember(self) -> None:
        """Write down who descends from it and where they listen, as long as that can be seen."""
        for pid in [self.pid, *descendants(self.pid)]:
            if (born := _born(pid)) is not None:
                self._seen[pid] = born
                self._sockets |= _sockets_of(pid)

    def members(self) -> dict[int, str]:
        """Every living process that carries the token or was once seen among the descendants, with its command.

        A server that writes its title over its environment has lost the token.
        """
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or _state(int(entry.name)) in ("", "Z"):
                continue
            pid = int(entry.name)
            try:
                marked = self.token.encode() in (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marked or (pid in self._seen and _born(pid) == self._seen[pid]):
                found[pid] = command
        return found

    def stopped(self, what: str) -> bool:
        """Whether some process of it with *what* in its command line stands still (SIGSTOP)."""
        self.remember()
        return any(what in command and _state(pid) == "T" for pid, command in self.members().items())

    def left(self) -> list[str]:
        """What is there of it: processes, listening ports, unix sockets, temporary folders."""
        processes = [f"process {pid}: {command[:150]}" for pid, command in self.members().items()]
        ports = [f"port: {line}" for line in _listening() if line.split()[9] in self._sockets]
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        sockets = [f"socket: {line}" for line in lines if f" {self.temp}/" in line]
        # pytest keeps its own temporary folders for its user to look at.
        folders = [f"folder: {path}" for path in self.temp.iterdir() if not path.name.startswith("pytest-of-")]
        return [*processes, *ports, *sockets, *folders]

    def leaves_nothing(self, within: float = 2.0) -> None:
        """Wait until nothing is left, so many seconds after its end.

        A process of xdist's own, which ends by itself when its controller is gone, has ten times as long: on a busy
        machine its interpreter may still be importing pytest.
        """
        ends = time.monotonic() + within

        def gone() -> bool:
            left = self.left()
            if left and time.monotonic() > ends and not all(_XDIST in each for each in left):
                raise AssertionError(f"left {within} s later: {left}")
            return not left

        wait.until(gone, what="all to be gone", timeout=10 * within, every=0.05, last=lambda: str(self.left()))

    def end(self) -> None:
        """For a test that has failed: end what it has left, process by process."""
        for pid in [self.pid, *self.members()]:
            if self.process.poll() is None or pid != self.pid:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
        self.process.wait()


@contextmanager
def starter(cwd: Path) -> Iterator[Callable[..., Started]]:
    """Start commands in *cwd*; whatever a failed test leaves of them is ended and removed."""
    # Short, so that the unix sockets of servers have room in it.
    temp = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    started: list[Started] = []

    def start(*argv: str) -> Started:
        own = temp / str(len(started))
        own.mkdir()
        started.append(Started(argv, cwd=cwd, temp=own))
        return started[-1]

    yield start
    for each in started:
        each.end()
    shutil.rmtree(temp, ignore_errors=True)


def _state(pid: int) -> str:
    return (_stat(pid) or [""])[0]


def _born(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _sockets_of(pid: int) -> set[str]:
    found = set()
    try:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            if match := _INODE.fullmatch(str(handle.readlink())):
                found.add(match[1])
    except OSError:
        pass
    return found


def _listening() -> list[str]:
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[3] == _LISTENING]
