"""A Redis or Valkey server as a process of this machine: started, broken and started again, on one port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal as signals
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.brokers.server import OnExit, RedisServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import KeeperGone
from pytest_celery_chaos.system import wait

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child, Keeper


class LocalServer(RedisServer):
    """One server of a scenario. Each start is a new process; port, socket, password and data folder stay.

    :param folder: of the run, for this server; its data lives in ``data`` below it.
    :raises ServerNotFound: no binary for the spec.

    For the other parameters see :class:`RedisServer`.
    """

    def __init__(
        self, spec: BrokerSpec, keeper: Keeper, folder: Path, log: Path, *, on_exit: OnExit | None = None
    ) -> None:
        self.binary = find(spec.server, spec.version, spec.path)
        self.server, self.version = self.binary.server, self.binary.version
        super().__init__(spec, keeper, log, on_exit=on_exit)
        self.data = folder.absolute() / "data"
        self._child: Child | None = None
        self._asked: set[int] = set()

    @property
    def child(self) -> Child | None:
        return self._child

    def _launch(self, arguments: Sequence[str]) -> Child:
        self.data.mkdir(parents=True, exist_ok=True)
        self._child = self._keeper.spawn(
            f"broker:{self.name}",
            [str(self.binary.path), str(self._config_file()), *self.arguments, *arguments],
            env=os.environ,
            cwd=self.data,
            log=self.log,
            on_exit=self._exited,
        )
        return self._child

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal. SIGKILL goes to its whole group, as a machine's end would; it returns when all are gone.

        A child that writes a snapshot dies with it: it could bring back data that a restart is to lose.
        """
        child = self._running("kill")
        if signal in (signals.SIGKILL, signals.SIGTERM, signals.SIGINT):
            self._asked.add(child.pid)
        child.signal(signal, group=signal == signals.SIGKILL)
        if signal == signals.SIGKILL:
            self._keeper.end(child)

    def stop(self, timeout: float = 15.0) -> None:
        child = self._running("stop")
        self._asked.add(child.pid)
        child.signal(signals.SIGTERM)
        child.signal(signals.SIGCONT)  # after TERM, so that a paused one goes on only to end
        child.wait(timeout)

    def pause(self) -> None:
        """Freeze it (SIGSTOP) and return when it stands: the kernel still accepts connections, nobody answers."""
        child = self._running("pause")
        child.signal(signals.SIGSTOP)
        wait.until(
            lambda: self.paused or None, what=f"broker {self.name} to stand still", timeout=5.0, every=self.every
        )

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        child = self._running("resume")
        child.signal(signals.SIGCONT)
        wait.until(lambda: not self.paused or None, what=f"broker {self.name} to go on", timeout=5.0, every=self.every)

    @property
    def paused(self) -> bool:
        """Whether the kernel says that it is stopped."""
        return self.child is not None and self.child.state() == "stopped"

    def block(self, name: str) -> Callable[[], None]:
        """Put a folder where a file of its data is to be: nobody can rename a file to it, root neither."""
        path, kept = self.data / name, self.data / f"{name}.kept"
        if path.exists():
            path.rename(kept)
        (path / "obstacle").mkdir(parents=True)

        def unblock() -> None:
            if path.is_dir():
                shutil.rmtree(path)
            if kept.exists():
                kept.rename(path)

        return unblock

    def close(self) -> None:
        """End it, if it runs, and let go of its port, socket and configuration. Idempotent; data and log stay."""
        if self.child is not None:
            self._asked.add(self.child.pid)
            with contextlib.suppress(KeeperGone):  # it has ended all itself
                self._keeper.end(self.child)
        self._let_go()

    def _bury(self) -> None:
        if self.child is not None:
            self._keeper.end(self.child)  # one that died by itself may have left the writer of a snapshot

    def _lose_data(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)

    def _running(self, verb: str) -> Child:
        if self.child is None or not self.child.alive:
            raise self._not_running(verb)
        return self.child

    def _config_file(self) -> Path:
        """Written once: what CONFIG REWRITE has changed outlives a restart, as it does on a real server."""
        path = self._folder / f"{self.port}.conf"
        if not path.exists():
            # Holds the password, which is why it is neither in the run's folder nor on the command line.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(self._config_text(self.data))
        return path

    def _exited(self, child: Child) -> None:
        if self.on_exit is not None:
            self.on_exit(child, child.pid in self._asked)
