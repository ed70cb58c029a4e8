"""A process with the recorder inside, from outside: its environment, its start, and what can be done to it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.tree import stands_still

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child

#: The folder that goes first on a recorded process's PYTHONPATH: `sitecustomize`, the recorder, the built-in tasks.
INSIDE: Final = Path(__file__).parent / "inside"
#: ``valkey://`` for Celery, for processes in whose environment this package is not installed.
VALKEY: Final = Path(__file__).parent.parent / "valkey"
BUILTIN_APP: Final = "celery_chaos_tasks:app"
_BROKER_VARIABLES: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
#: What each recorded process is given for itself, beside variables called ``CELERY_CHAOS_…``.
OWN_VARIABLES: Final = frozenset({"TMPDIR", *_BROKER_VARIABLES, "CELERY_RESULT_BACKEND"})
#: How a process is asked to stop. Soft and cold are one signal: `worker_soft_shutdown_timeout` tells them apart.
STOP_SIGNALS: Final[Mapping[str, int]] = {
    "warm": signal.SIGTERM,
    "soft": signal.SIGQUIT,
    "cold": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}


def recorded_environment(
    source: str,
    *,
    ledgers: Path,
    control: Path,
    settings: Mapping[str, Any],
    extra: Mapping[str, str],
    base: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of a process with the recorder inside (DESIGN 2): *base*, *extra* over it, then the recorder's.

    The caller's PYTHONPATH is kept behind ours, and the current folder behind both, so that ``-A proj`` is found
    as it is on the user's own command line.
    """
    # A pool process that is killed leaves billiard's folder (pymp-…): here it goes with the run's own.
    temp = control / "tmp"
    temp.mkdir(exist_ok=True)
    environment = {**base, "TMPDIR": str(temp), **extra}
    path = [str(INSIDE), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), str(Path.cwd())]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    # A second fence, should the recorder never get in (`python -E`): nobody's own broker is ever reached.
    environment |= dict.fromkeys(_BROKER_VARIABLES, settings["broker_url"])
    environment["CELERY_RESULT_BACKEND"] = settings["result_backend"]
    if by_valkey(settings):
        environment["CELERY_CHAOS_VALKEY"] = str(VALKEY)
    environment["CELERY_CHAOS_LEDGERS"] = str(ledgers)
    environment["CELERY_CHAOS_SOURCE"] = source
    environment["CELERY_CHAOS_CONTROL"] = str(control)
    environment["CELERY_CHAOS_SETTINGS"] = json.dumps(settings)
    environment["CELERY_CHAOS_COUNTER"] = str(ledgers.parent / "executions.txt")
    return environment


def by_valkey(settings: Mapping[str, Any]) -> bool:
    """Whether an address in *settings* is one of valkey-py's, which Celery does not know by itself."""
    return any(str(settings.get(name)).startswith("valkey") for name in ("broker_url", "result_backend"))


def packages(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the environment of another Celery version needs for the addresses in *settings*."""
    return ("valkey",) if by_valkey(settings) else ()


class Spawner(Protocol):
    """Starts processes: the keeper, a forkserver, or a container."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What the environment of a process begins with."""

    def prepare(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], **process: Any) -> None:
        """Begin, without waiting, what :meth:`spawn` with the same needs before the process can start."""

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[Child], None] | None = None,
    ) -> Child:
        """See :meth:`Keeper.spawn`."""


class Recorded:
    """A process of the environment, started as often as a scenario asks for.

    :param role: ``worker``, ``client`` or ``beat``.
    :param name: by which steps name it.
    :param app: as ``celery -A`` takes it, or ``builtin``.
    :param keeper: starts it: the keeper, or what starts it in a container.
    :param settings: Celery settings laid over the application's: addresses, the scenario's, the process's own.
    :param env: environment variables.
    :param on_exit: called when the main process has ended, on the keeper's thread.
    """

    def __init__(
        self,
        role: str,
        name: str,
        *,
        keeper: Spawner,
        app: str,
        settings: Mapping[str, Any],
        env: Mapping[str, str],
        folder: Path,
        control: Path,
        on_exit: Callable[[Recorded, Child], None],
    ) -> None:
        self.role, self.name, self.source = role, name, f"{role}:{name}"
        self.settings, self.env = settings, env
        self.log = folder / "logs" / f"{role}-{name}.log"
        self.child: Child | None = None
        #: Set when a step or the harness ends the process, so that `offline` can say whether somebody asked for it.
        self.asked_to_end = False
        self.starts = 0
        self._keeper, self._folder, self._control = keeper, folder, control
        self._app = BUILTIN_APP if app == "builtin" else app
        self._on_exit = on_exit

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    @property
    def pid(self) -> int:
        """The main process's id. Raises UsageError where it does not run."""
        return self.running().pid

    def command_line(self) -> Sequence[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the process; readiness is the environment's to judge, from what the process records.

        Raises UsageError where it runs already, StartFailed where the program cannot be executed.
        """
        if self.alive:
            raise UsageError(f"{self.role} {self.name!r} is running already", hint="stop or kill it first")
        self.asked_to_end = False
        self.starts += 1
        self.child = self._keeper.spawn(self.source, self.command_line(), **self._process())

    def prepare(self) -> None:
        """Begin what a start needs and can be shared by processes, so that several can begin at the same time."""
        self._keeper.prepare(self.source, self.command_line(), **self._process())

    def _process(self) -> dict[str, Any]:
        """Of the process, what :meth:`Keeper.spawn` takes beside its name and command line."""
        env = recorded_environment(
            self.source,
            ledgers=self._folder / "ledgers",
            control=self._control,
            settings=self.settings,
            extra=self.env,
            base=self._keeper.environment,
        )
        return {"env": env, "cwd": Path.cwd(), "log": self.log, "on_exit": self._ended}

    def kill(self, number: int, *, target: str = "group", ending: bool = True) -> None:
        """Send signal *number* to the main process, to one pool child, or to the whole process group.

        :param ending: whether the process's end is asked for by this (a raw SIGTERM is, a SIGUSR1 is not).
        """
        child = self.running()
        self.asked_to_end = self.asked_to_end or (ending and target != "child")
        if target == "child":
            children = child.children()
            if not children:
                raise UsageError(
                    f"{self.role} {self.name!r} has no pool processes",
                    hint="only a worker with pool: prefork has children to kill",
                )
            child.signal_pid(children[0], number)
        else:
            child.signal(number, group=target == "group")

    def pause(self) -> None:
        """Freeze its process group (SIGSTOP) and return when it stands."""
        pid = self.pid
        self.kill(signal.SIGSTOP, ending=False)
        wait.until(lambda: stands_still(pid), what=f"{self.source} to stand still", timeout=5.0, every=0.001)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self.kill(signal.SIGCONT, ending=False)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the process's log, for messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def failed_to_start(self, what: str) -> StartFailed:
        return StartFailed(
            f"{what}\n{self.log_tail()}", where=f"{self.role} {self.name!r}", hint=f"the whole log: {self.log}"
        )

    def running(self) -> Child:
        """The process. Raises UsageError where it does not run."""
        if self.child is None or not self.child.alive:
            raise UsageError(f"{self.role} {self.name!r} is not running", hint="start it first")
        return self.child

    def _ended(self, child: Child) -> None:
        self._on_exit(self, child)


def celery(version: str | None, app: str, more: tuple[str, ...] = ()) -> list[str]:
    """The beginning of a ``celery -A APP`` command line, as a user would type it.

    :param version: a Celery version (``5.5``), run in an environment made for it; None: the installed one.
    :param more: packages that this environment needs beside Celery.
    """
    python = sys.executable
    if version is not None:
        from pytest_celery_chaos.workers.runtime import python_for

        python = str(python_for(version, more))
    # As a user starts it: by the script. `python -m celery` cannot start itself again on SIGHUP. The script is
    # given to Python by name, since the first line of one in a moved environment names a Python that is gone.
    script = Path(python).parent / "celery"
    return [python, *([str(script)] if script.exists() else ["-m", "celery"]), "-A", app]
