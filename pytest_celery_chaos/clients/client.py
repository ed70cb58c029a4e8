"""A client of the environment, from outside: the process is started, given orders, and asked what came of them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.clients.spec import ClientSpec
from pytest_celery_chaos.errors import StartFailed, WaitExpired
from pytest_celery_chaos.workers.process import BUILTIN_APP, recorded_environment

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child, Keeper


class Client:
    """One client process.

    :param app: as ``celery -A`` takes it, or ``builtin``.
    :param settings: Celery settings laid over the application's.
    """

    def __init__(
        self, spec: ClientSpec, *, keeper: Keeper, app: str, settings: Mapping[str, Any], folder: Path, control: Path
    ) -> None:
        self.spec, self.name, self.source = spec, spec.name, f"client:{spec.name}"
        self.log = folder / "logs" / f"client-{self.name}.log"
        self._keeper, self._folder, self._control, self._settings = keeper, folder, control, settings
        self._app = BUILTIN_APP if app == "builtin" else app
        self._replies: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._sent = 0
        self._gone = False
        self.child: Child | None = None
        self._connection: socket.socket | None = None
        self._server: socket.socket | None = None

    def launch(self) -> None:
        """Start the process; it is ready after :meth:`await_ready`."""
        path = self._control / f"client-{self.name}.sock"
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(1)
        self.child = self._keeper.spawn(
            self.source,
            [sys.executable, "-m", "pytest_celery_chaos.clients.process", str(path), self._app],
            env=recorded_environment(
                self.source,
                ledgers=self._folder / "ledgers",
                control=self._control,
                settings=self._settings,
                extra=self.spec.env,
            ),
            cwd=Path.cwd(),
            log=self.log,
            on_exit=lambda _: self._hung_up(),
        )

    def await_ready(self, timeout: float = 30.0) -> None:
        """Wait until the process has loaded the application. Raises StartFailed with its log."""
        assert self._server is not None
        with self._server:
            self._server.settimeout(0.05)
            self._connection = self._accept(timeout)
        lines = self._connection.makefile("rb")
        if not lines.readline():
            raise self._failed("the client hung up while starting")
        threading.Thread(target=self._read, args=(lines,), name=f"chaos-{self.source}", daemon=True).start()

    def order(self, name: str, args: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """Tell the process to do *name*, and wait for its answer.

        :param timeout: seconds.
        :raises WaitExpired: no answer in that time. The order stays under way: a publish may block for ever.
        :raises StartFailed: the process is gone.
        """
        number = self.post(name, args)
        with self._changed:
            arrived = self._changed.wait_for(lambda: number in self._replies or self._gone, timeout)
            if number in self._replies:
                reply = self._replies.pop(number)
                if "failed" in reply:
                    raise self._failed(f"{name}: {reply['failed']}")
                return reply
        if arrived:
            raise self._failed(f"the client process ended during {name!r}")
        raise WaitExpired(f"{name}: no answer after {timeout:g} s", where=f"client {self.name!r}")

    def post(self, name: str, args: Mapping[str, Any]) -> int:
        """Tell the process to do *name*, without waiting."""
        if self._connection is None or self._gone:
            raise self._failed("the client is not running")
        with self._changed:
            self._sent += 1
            number = self._sent
            line = json.dumps({"n": number, "order": name, "args": dict(args)})
            self._connection.sendall(line.encode() + b"\n")
        return number

    def close(self) -> None:
        """Hang up; the process ends by itself (or by the keeper)."""
        for end in (self._connection, self._server):
            if end is not None:
                end.close()

    def _accept(self, timeout: float) -> socket.socket:
        from pytest_celery_chaos.system.wait import until

        server = self._server
        assert server is not None

        def arrived() -> socket.socket | None:
            if self._gone:
                raise self._failed("the client ended while starting")
            try:
                return server.accept()[0]
            except TimeoutError:
                return None

        connection = until(arrived, what=f"client {self.name} to start", timeout=timeout)
        connection.settimeout(None)
        return connection

    def _read(self, lines: Any) -> None:
        try:
            for line in lines:
                reply = json.loads(line)
                with self._changed:
                    self._replies[reply.pop("n")] = reply
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass
        self._hung_up()

    def _hung_up(self) -> None:
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _failed(self, what: str) -> StartFailed:
        tail = self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""
        return StartFailed(f"{what}\n{tail}".rstrip(), where=f"client {self.name!r}", hint=f"the log: {self.log}")
