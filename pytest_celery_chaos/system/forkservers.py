"""The keeper's side of forkservers: processes that start others by forking, faster than Python starts.

Part of the keeper, and on the standard library alone like it. What a forkserver forks becomes the keeper's own child:
it is signalled, reaped and killed like any that the keeper has started itself.
"""

from __future__ import annotations

import json
import os
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keeper_main import KeeperProcess

PACKET = 1 << 20
GONE = "forkserver"
"""The step of an answer that says: start this process another way, the forkserver has ended or does not listen."""


class Forkservers:
    """Sockets to the forkservers that run, and the forks that they have been asked for and not told of."""

    def __init__(self, keeper: KeeperProcess) -> None:
        self.keeper = keeper
        self.sockets: dict[int, int] = {}  # file -> the harness's key of the forkserver
        self._connections: dict[int, socket.socket] = {}  # by key
        self._theirs: dict[int, socket.socket] = {}  # by key: the end for a forkserver that is being started
        self._asked: dict[int, tuple[int, int]] = {}  # key of the new process -> request's number, forkserver's key
        self._early: dict[int, tuple[int, int]] = {}  # pid -> status and time of an end that came before the answer

    def open(self, key: int) -> int:
        """Make the socket of a forkserver; return the file that it is to inherit."""
        connection, self._theirs[key] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET)
        self._connections[key] = connection
        self.sockets[connection.fileno()] = key
        self.keeper.poll.register(connection, select.POLLIN)
        return self._theirs[key].fileno()

    def opened(self, key: int) -> None:
        """It has been started, or could not be: then its socket ends at once."""
        self._theirs.pop(key).close()

    def ask(
        self, number: int, key: int, server: int, argv: list[str], env: dict[str, str], cwd: str, log: str
    ) -> dict[str, Any] | None:
        """Ask a forkserver for a process; None: :meth:`receive` answers request *number* when it has been forked."""
        connection = self._connections.get(server)
        if connection is None:
            return {"step": GONE, "error": "it has ended"}
        try:
            output = open_log(log)
        except OSError as error:
            return {"step": "log", "error": error.strerror}
        request = json.dumps({"n": key, "argv": argv, "env": env, "cwd": cwd}).encode()
        try:
            socket.send_fds(connection, [request], [output], socket.MSG_DONTWAIT)
        except OSError as error:  # one that is stopped does not read
            return {"step": GONE, "error": error.strerror}
        finally:
            os.close(output)
        self._asked[key] = number, server
        return None

    def receive(self, file: int) -> None:
        """Take one answer of the forkserver at the other end of *file*."""
        server = self.sockets[file]
        try:
            packet = self._connections[server].recv(PACKET, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            answer = json.loads(packet)
            self._answer(answer.pop("n"), answer)
            return
        del self.sockets[file]
        self.keeper.poll.unregister(file)
        self._connections.pop(server).close()
        for key in [key for key, (_, asked) in self._asked.items() if asked == server]:
            self._answer(key, {"step": GONE, "error": "it has ended"})

    def _answer(self, key: int, answer: dict[str, Any]) -> None:
        number, _ = self._asked.pop(key)
        pid = answer.get("pid")
        if pid is not None:
            self.keeper.running[pid] = key
            self.keeper.pids[key] = pid
        self.keeper.send({"n": number, **answer})
        if pid in self._early:
            del self.keeper.running[pid]
            self.keeper.report(key, *self._early.pop(pid))
        if not self._asked:
            self._early.clear()

    def ended(self, pid: int, status: int, now: int) -> None:
        """A process was reaped that the keeper did not start: perhaps one whose forkserver has not answered yet."""
        if self._asked:
            self._early[pid] = status, now


def open_log(path: str) -> int:
    """The file that a process's output is appended to."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
