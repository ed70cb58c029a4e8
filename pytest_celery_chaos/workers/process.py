"""A ``celery worker`` of an environment: its command line, its start, and what can be done to it from outside."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.workers import statedb
from pytest_celery_chaos.workers.spec import WorkerSpec

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child, Keeper

#: The folder that goes first on a recorded process's PYTHONPATH: `sitecustomize`, the recorder, the built-in tasks.
INSIDE: Final = Path(__file__).parent / "inside"
BUILTIN_APP: Final = "celery_chaos_tasks:app"
_BROKER_VARIABLES: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
_FAST: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def recorded_environment(
    source: str, *, ledgers: Path, control: Path, settings: Mapping[str, Any], extra: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a process with the recorder inside (DESIGN 2): ours, *extra* over it, then the recorder's.

    The caller's PYTHONPATH is kept behind ours, and the current folder behind both, so that ``-A proj`` is found
    as it is on the user's own command line.
    """
    # A pool process that is killed leaves billiard's folder (pymp-…): here it goes with the run's own.
    temp = control / "tmp"
    temp.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temp), **extra}
    path = [str(INSIDE), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), str(Path.cwd())]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    # A second fence, should the recorder never get in (`python -E`): nobody's own broker is ever reached.
    environment |= dict.fromkeys(_BROKER_VARIABLES, settings["broker_url"])
    environment["CELERY_RESULT_BACKEND"] = settings["result_backend"]
    environment["CELERY_CHAOS_LEDGERS"] = str(ledgers)
    environment["CELERY_CHAOS_SOURCE"] = source
    environment["CELERY_CHAOS_CONTROL"] = str(control)
    environment["CELERY_CHAOS_SETTINGS"] = json.dumps(settings)
    environment["CELERY_CHAOS_COUNTER"] = str(ledgers.parent / "executions.txt")
    return environment


class Worker:
    """A worker of the environment, started as often as a scenario asks for.

    :param app: as ``celery -A`` takes it, or ``builtin``.
    :param settings: Celery settings laid over the application's: addresses, the scenario's, the worker's own.
    :param on_exit: called when the main process has ended, on the keeper's thread.
    :param state: where ``statedb: redis`` keeps its state.
    :raises UsageError: ``statedb: redis`` without the package that does it.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        keeper: Keeper,
        app: str,
        settings: Mapping[str, Any],
        folder: Path,
        control: Path,
        on_exit: Callable[[Worker, Child], None],
        state: statedb.Address = "",
    ) -> None:
        statedb.check(spec)
        self.spec, self.name, self.source = spec, spec.name, f"worker:{spec.name}"
        self.settings = settings
        self.log = folder / "logs" / f"worker-{spec.name}.log"
        self.child: Child | None = None
        #: Set when a step or the harness ends the worker, so that `offline` can say whether somebody asked for it.
        self.asked_to_end = False
        self.starts = 0
        self._keeper, self._folder, self._control = keeper, folder, control
        self._app = BUILTIN_APP if app == "builtin" else app
        self._on_exit = on_exit
        self._state = state

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    @property
    def pid(self) -> int:
        """The main process's id. Raises UsageError where the worker does not run."""
        return self._running().pid

    def command_line(self) -> list[str]:
        """The worker's command line, as a user would type it."""
        spec = self.spec
        python = sys.executable
        if spec.celery is not None:
            from pytest_celery_chaos.workers.runtime import python_for

            python = str(python_for(spec.celery, statedb.packages(spec)))
        # As a user starts it: by the script. `python -m celery` cannot start itself again on SIGHUP. The script is
        # given to Python by name, since the first line of one in a moved environment names a Python that is gone.
        script = Path(python).parent / "celery"
        line = [python, *([str(script)] if script.exists() else ["-m", "celery"])]
        line += ["-A", self._app, "worker", "--loglevel", "INFO"]
        line += ["--hostname", spec.hostname or f"{spec.name}@chaos"]
        line += ["--pool", spec.pool, "--concurrency", str(spec.concurrency)]
        if spec.queues:
            line += ["--queues", ",".join(spec.queues)]
        line += statedb.options(spec, self._folder, self._state)
        if spec.profile == "fast":
            line += _FAST
        return [*line, *spec.options]

    def start(self) -> None:
        """Start the process; readiness is the environment's to judge, from what the worker records.

        Raises UsageError where it runs already, StartFailed where the program cannot be executed.
        """
        if self.alive:
            raise UsageError(f"worker {self.name!r} is running already", hint="stop or kill it first")
        self.asked_to_end = False
        self.starts += 1
        self.child = self._keeper.spawn(
            self.source,
            self.command_line(),
            env=recorded_environment(
                self.source,
                ledgers=self._folder / "ledgers",
                control=self._control,
                settings=self.settings,
                extra={**statedb.environment(self.spec, self._state), **self.spec.env},
            ),
            cwd=Path.cwd(),
            log=self.log,
            on_exit=lambda child: self._on_exit(self, child),
        )

    def kill(self, number: int, *, target: str = "group", ending: bool = True) -> None:
        """Send signal *number* to the main process, to one pool child, or to the whole process group.

        :param ending: whether the worker's end is asked for by this (a raw SIGTERM is, a SIGUSR1 is not).
        """
        child = self._running()
        self.asked_to_end = self.asked_to_end or (ending and target != "child")
        if target == "child":
            children = child.children()
            if not children:
                raise UsageError(
                    f"worker {self.name!r} has no pool processes", hint="only pool: prefork has children to kill"
                )
            child.signal_pid(children[0], number)
        else:
            child.signal(number, group=target == "group")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the worker's log, for messages."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def failed_to_start(self, what: str) -> StartFailed:
        return StartFailed(
            f"{what}\n{self.log_tail()}", where=f"worker {self.name!r}", hint=f"the whole log: {self.log}"
        )

    def _running(self) -> Child:
        if self.child is None or not self.child.alive:
            raise UsageError(f"worker {self.name!r} is not running", hint="start it first")
        return self.child


#: How a worker is asked to stop. Soft and cold are one signal: `worker_soft_shutdown_timeout` tells them apart.
STOP_SIGNALS: Final[Mapping[str, int]] = {
    "warm": signal.SIGTERM,
    "soft": signal.SIGQUIT,
    "cold": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
