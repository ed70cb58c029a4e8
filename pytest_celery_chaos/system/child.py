"""A process that the keeper has started, and how it ended."""

from __future__ import annotations

import signal as signals
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_celery_chaos.errors import KeeperGone, UsageError
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.tree import children_of

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Keeper


@dataclass(frozen=True)
class Exit:
    """How a process ended: with an exit code, or by a signal.

    :param t: nanoseconds of CLOCK_MONOTONIC, read right after it was reaped.
    :param oom: the kernel killed it, or another process of its container, at the container's memory limit.
    """

    code: int | None
    signal: int | None
    t: int
    oom: bool = False

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            name = signals.Signals(self.signal).name
            return f"killed by {name}{' of the kernel, out of memory' if self.oom else ''}"
        except ValueError:  # a real-time signal has no name
            return f"killed by signal {self.signal}"


class Child:
    """A started process. Made by :meth:`Keeper.spawn`; all its methods may be called from any thread.

    :ivar pid: its process id, which is also that of its process group.
    :ivar started: nanoseconds of CLOCK_MONOTONIC, read right before it was started.
    """

    def __init__(
        self, keeper: Keeper, key: int, name: str, argv: Sequence[str], on_exit: Callable[[Child], None] | None
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.key = key
        self.pid = 0
        self.started = 0
        self._keeper = keeper
        self._on_exit = on_exit
        self._exit: Exit | None = None
        self._over = threading.Event()

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {self._exit or self.state()}>"

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self._exit

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped. A stopped process is alive."""
        return self._exit is None and not self._over.is_set()

    def signal(self, sig: int, *, group: bool = False) -> bool:
        """Send a signal, through the keeper, so that it never hits another process that got the same pid.

        :param group: to its whole process group, which may outlive it.
        :return: False if it is gone.
        :raises UsageError: for a number that is no signal.
        """
        return self._keeper.send_signal("signal", self, sig, group=group)

    def signal_pid(self, pid: int, sig: int) -> bool:
        """Send a signal to one process that descends from this one, e.g. a child of a prefork pool.

        :return: False if it is gone or does not descend from this process.
        """
        return self._keeper.send_signal("signal_pid", self, sig, pid=pid)

    def wait(self, timeout: float) -> Exit:
        """Wait until it has ended and its ``on_exit`` has returned.

        :param timeout: seconds.
        :raises WaitExpired: if it still runs.
        :raises KeeperGone: if nobody can know any more.
        """
        wait.for_event(self._over, what=f"{self.name} (pid {self.pid}) to exit", timeout=timeout, last=self.state)
        if self._exit is None:
            raise KeeperGone(f"the keeper died, so the end of {self.name} (pid {self.pid}) is not known")
        return self._exit

    def disown(self) -> None:
        """Let nobody be told of its end any more."""
        self._on_exit = None

    def children(self) -> list[int]:
        """The pids of its direct children, e.g. those of a prefork pool; none when it has ended."""
        return children_of(self.pid) if self.alive else []

    def state(self) -> str:
        """Its state in words, as ``/proc`` has it: ``sleeping``, ``stopped`` …"""
        if self._exit is not None:
            return str(self._exit)
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return "gone"
        return status.partition("State:")[2].partition("\n")[0].partition("(")[2].rstrip(")")

    def ended(self, end: Exit | None) -> None:
        """Called by the keeper's reader: it has ended, or (None) the keeper has and nobody knows."""
        if self._over.is_set():
            return
        self._exit = end
        try:
            if self._on_exit is not None and end is not None:
                self._on_exit(self)
        finally:
            self._over.set()


def check_signal(sig: int) -> None:
    """Refuse what is no signal, before it is sent anywhere; 0 asks only whether the process is there."""
    if sig != 0 and sig not in signals.valid_signals():
        raise UsageError(f"{sig!r} is not a signal of this system", hint="use a member of signal.Signals")
