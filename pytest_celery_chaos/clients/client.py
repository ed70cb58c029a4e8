"""A client of the environment, from outside: the process is started, given orders, and asked what came of them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from pytest_celery_chaos.clients.spec import ClientSpec
from pytest_celery_chaos.errors import UsageError, WaitExpired
from pytest_celery_chaos.workers.recorded import Recorded


class Client(Recorded):
    """One client process.

    :param made_with: see :class:`~pytest_celery_chaos.workers.recorded.Recorded`.
    """

    def __init__(self, spec: ClientSpec, **made_with: Any) -> None:
        super().__init__("client", spec.name, env=spec.env, **made_with)
        self.spec = spec
        self._replies: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._sent = 0
        self._gone = False
        self._path = self._control
        self._connection: socket.socket | None = None
        self._server: socket.socket | None = None

    def command_line(self) -> list[str]:
        """Our own program, with the socket that it takes its orders from."""
        return [sys.executable, "-m", "pytest_celery_chaos.clients.process", str(self._path), self._app]

    def start(self) -> None:
        """Start the process; it is ready after :meth:`await_ready`."""
        if not self.alive:
            self.close()
            self._gone = False
            self._path = self._control / f"client-{self.name}-{self.starts}.sock"
            self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._server.bind(str(self._path))
            self._server.listen(1)
        super().start()

    def await_ready(self, timeout: float = 30.0) -> None:
        """Wait until the process has loaded the application. Raises StartFailed with its log."""
        assert self._server is not None
        with self._server:
            self._server.settimeout(0.05)
            self._connection = self._accept(timeout)
        lines = self._connection.makefile("rb")
        if not lines.readline():
            raise self.failed_to_start("the client hung up while starting")
        life = self.starts
        threading.Thread(target=self._read, args=(lines, life), name=f"chaos-{self.source}", daemon=True).start()

    def order(self, name: str, args: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """Tell the process to do *name*, and wait for its answer.

        :param timeout: seconds.
        :returns: what the process answers; nothing where it was ended on purpose before it could: the history knows
            how far it came.
        :raises WaitExpired: no answer in that time. The order stays under way: a publish may block for ever.
        :raises StartFailed: the process is gone, and nobody asked for that.
        """
        number = self.post(name, args)
        with self._changed:
            arrived = self._changed.wait_for(lambda: number in self._replies or self._gone, timeout)
            if number in self._replies:
                reply = self._replies.pop(number)
                if "failed" in reply:
                    raise self.failed_to_start(f"{name}: {reply['failed']}")
                return reply
        if arrived and self.asked_to_end:
            return {}
        if arrived:
            raise self.failed_to_start(f"the client process ended during {name!r}")
        raise WaitExpired(f"{name}: no answer after {timeout:g} s", where=f"client {self.name!r}")

    def post(self, name: str, args: Mapping[str, Any]) -> int:
        """Tell the process to do *name*, without waiting."""
        if self._connection is None or self._gone:
            raise UsageError(f"client {self.name!r} is not running", hint="start it first")
        with self._changed:
            self._sent += 1
            number = self._sent
            line = json.dumps({"n": number, "order": name, "args": dict(args)})
            self._connection.sendall(line.encode() + b"\n")
        return number

    def close(self) -> None:
        """Hang up; the process ends by itself (or by the keeper)."""
        self.asked_to_end = True
        for end in (self._connection, self._server):
            if end is not None:
                end.close()

    def _accept(self, timeout: float) -> socket.socket:
        from pytest_celery_chaos.system.wait import until

        server = self._server
        assert server is not None

        def arrived() -> socket.socket | None:
            if not self.alive:
                raise self.failed_to_start("the client ended while starting")
            try:
                return server.accept()[0]
            except TimeoutError:
                return None

        connection = until(arrived, what=f"client {self.name} to start", timeout=timeout)
        connection.settimeout(None)
        return connection

    def _read(self, lines: Any, life: int) -> None:
        try:
            for line in lines:
                reply = json.loads(line)
                with self._changed:
                    self._replies[reply.pop("n")] = reply
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass
        self._hung_up(life)

    def _hung_up(self, life: int) -> None:
        """Nothing more comes from the process in its *life*-th start; of a later one that says nothing."""
        with self._changed:
            self._gone = self._gone or life == self.starts
            self._changed.notify_all()
