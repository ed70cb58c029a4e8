"""One start of a container: its main process, its output in a log, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_celery_chaos.system.child import Child, Exit, check_signal
from pytest_celery_chaos.system.engine import already_gone
from pytest_celery_chaos.system.tree import descendants

#: As a shell has it, the main process of a container that died of a signal ends with this and its number.
_SIGNALLED: Final = 128
#: Seconds that the engine may take to tell the end of a container that it has removed.
_GONE_WITHIN: Final = 15.0
#: What the engine says where the kernel did not freeze a container, and for how many seconds it is asked again.
_NOT_FROZEN: Final = "unable to freeze"
_FROZEN_WITHIN: Final = 5.0


class Started(Child):
    """One start of a container. Its pids are those of this machine, where the engine is on it too.

    :param container: docker-py's, started.
    :param output: what it writes, from this start on.
    :param log: file that it is appended to.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        container: Any,
        output: Iterable[bytes],
        log: Path,
        on_exit: Callable[[Child], None] | None,
    ) -> None:
        keeper: Any = None  # who cleans up after it knows it by its label
        super().__init__(keeper, 0, name, argv, on_exit)
        self.pid, self.started = int(container.attrs["State"]["Pid"]), time.monotonic_ns()
        self._container, self._output, self._log = container, output, log
        threading.Thread(target=self._follow, name=f"celery-chaos {name}", daemon=True).start()

    def signal(self, sig: int, *, group: bool = False) -> bool:
        """Send a signal to the main process, through the engine; to a *group*, to all that descend from it as well.

        With the main process the engine ends all others of the container.
        """
        check_signal(sig)
        if not self.alive:
            return False
        if group and sig != signals.SIGKILL:
            for pid in descendants(self.pid):
                self._send(pid, sig)
        with _not_running():
            self._container.kill(signals.Signals(sig).name)
            return True
        return False

    def signal_pid(self, pid: int, sig: int) -> bool:
        return self.alive and pid in descendants(self.pid) and self._send(pid, sig)

    def _send(self, pid: int, sig: int) -> bool:
        try:
            os.kill(pid, sig)
            return True
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's: one who is inside may
            code, _ = self._container.exec_run(["kill", f"-{int(sig)}", str(pid)], user="root")
            return bool(code == 0)

    def _follow(self) -> None:
        code = _SIGNALLED + signals.SIGKILL  # of one that was removed before it could be asked
        now, oom = None, False
        try:
            with self._log.open("ab", buffering=0) as log:
                for chunk in self._output:
                    log.write(chunk)
            code = int(self._container.wait()["StatusCode"])
            now = time.monotonic_ns()
            oom = code == _SIGNALLED + signals.SIGKILL and self._out_of_memory()
        except Exception as error:  # an engine that is gone, whatever its client then raises
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
                log.write(f"celery-chaos: how it ended is not known: {error}\n")
        died = code > _SIGNALLED
        self.ended(Exit(None if died else code, code - _SIGNALLED if died else None, now or time.monotonic_ns(), oom))

    def _out_of_memory(self) -> bool:
        """Whether the engine says that the kernel killed it; of a container without a limit nobody needs to ask."""
        if not self._container.attrs["HostConfig"]["Memory"]:
            return False
        with already_gone():
            self._container.reload()
        return bool(self._container.attrs["State"]["OOMKilled"])


@contextlib.contextmanager
def _not_running() -> Any:
    """Around a signal to a container that may have ended meanwhile: the engine then answers 409 or 404."""
    from docker.errors import APIError

    with already_gone():
        try:
            yield
        except APIError as error:
            if error.response is None or error.response.status_code != 409:
                raise


def start(
    container: Any, name: str, argv: Sequence[str], *, log: Path, on_exit: Callable[[Child], None] | None
) -> Started:
    """Start a container that is not running, and follow it from its first word."""
    # Before its start, so that nothing of this start is missed and nothing of another comes twice.
    output = container.attach(stdout=True, stderr=True, stream=True, logs=False)
    container.start()
    container.reload()
    return Started(name, argv, container=container, output=output, log=log, on_exit=on_exit)


def freeze(container: Any) -> None:
    """Pause a container (docker pause).

    On cgroup v1 the kernel may not freeze a process that is just being made; runc then thaws the container, and leaves
    it to its caller to try again (https://github.com/opencontainers/runc/pull/4388).
    """
    from docker.errors import APIError

    end = time.monotonic() + _FROZEN_WITHIN
    while True:
        try:
            container.pause()
            return
        except APIError as error:
            if _NOT_FROZEN not in str(error.explanation) or time.monotonic() > end:
                raise


def remove(container: Any, child: Child | None) -> None:
    """Remove a container, running or not, and what is in it; its last start has ended when this returns."""
    with already_gone():
        container.remove(force=True, v=True)
    if child is not None:
        child.wait(_GONE_WITHIN)
