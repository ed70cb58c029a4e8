"""The keeper: one small process that starts all others and leaves none behind.

Started by :class:`~pytest_celery_chaos.system.keeper.Keeper` under ``python -I -S`` with one end of a SEQPACKET socket
pair, one JSON document a packet, so that an interrupted sender cannot leave half a message. It stands on the standard
library alone, because nothing else can be imported under ``-I -S``, and it has one thread.

It is the *subreaper* (``prctl(2)``) of all that descends from it: a process that leaves its session, wipes its
environment or loses its parent still becomes the keeper's child. When the owner's end of the socket closes, or a
watched process dies, it kills all of them, stopped ones too, removes the temporary folders and marks unfinished runs.
An owner that has asked it to stay may go: then it does the same on SIGTERM.
"""

# pathlib would double the time that the imports take.
# ruff: noqa: PTH102, PTH118

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Collection
from typing import Any

from .forkservers import Forkservers, open_log
from .leftovers import mark_interrupted, remove_tree
from .tree import children_of, descendants, group_of

PACKET = 1 << 20
"""Bytes that one message may have at most; the harness limits its send buffer so that it cannot send more."""

KILL_SECONDS = 10.0
"""How long killing goes on: a process in uninterruptible sleep does not die before the kernel lets it."""

_PR_SET_CHILD_SUBREAPER = 36
_DEFAULT = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def _send(pid: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


class KeeperProcess:
    """The state of the keeper and its loop. Requests are methods named ``do_…``; their result is the reply."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.outbox: list[bytes] = []
        self.running: dict[int, int] = {}  # pid -> the harness's key
        self.pids: dict[int, int] = {}  # key -> pid, also after the exit: its process group may live on
        self.folders: list[str] = []
        self.runs: list[str] = []
        self.engines: list[tuple[str, str]] = []  # address of a container engine, label of what is ours there
        self.forkservers = Forkservers(self)
        self.watched: dict[int, int] = {}  # pidfd -> pid
        self.owner_pidfd = -1
        self.owner = os.getppid()
        self.ended_by: str | None = None
        self.stays = False
        self.number = 0  # of the request that is being answered
        self.close_request: int | None = None
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self.poll = select.poll()
        self.poll.register(self.wake, select.POLLIN)
        self.poll.register(connection, select.POLLIN)

    # The loop

    def serve(self) -> None:
        """Answer the owner and report exits, until the owner closes, the owner ends or a watched process dies."""
        while self.ended_by is None:
            for fd, _ in self.poll.poll():
                if fd == self.connection.fileno():
                    self.receive()
                elif fd in self.forkservers.sockets:
                    self.forkservers.receive(fd)
                elif fd in self.watched:
                    self.ended_by = f"watched process {self.watched[fd]} ended"
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(self.owner_pidfd, signal.SIGKILL)
                elif fd == self.owner_pidfd:
                    self.ended_by = f"the owner (pid {self.owner}) ended"
            self.reap()
            self.flush()

    def receive(self) -> None:
        """Take one request. An error in it is the requester's: it is told, and the keeper lives on."""
        try:
            packet = self.connection.recv(PACKET, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # it was only ready to be written to
        except ConnectionError:
            packet = b""
        if not packet:
            self.poll.unregister(self.connection)
            if not self.stays:
                self.ended_by = f"the owner (pid {self.owner}) ended"
            return
        request = json.loads(packet)
        number = self.number = request.pop("n")
        try:
            reply = getattr(self, "do_" + request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        if reply is None:
            return  # a forkserver's answer is awaited
        if self.ended_by is None:
            self.send({"n": number, **reply})
        else:
            self.close_request = number

    def send(self, message: dict[str, Any]) -> None:
        self.outbox.append(json.dumps(message).encode())
        self.flush()

    def flush(self) -> None:
        """Send what can be sent. The keeper never blocks on an owner that does not read, e.g. a stopped one."""
        try:
            while self.outbox:
                self.connection.send(self.outbox[0], socket.MSG_DONTWAIT)
                del self.outbox[0]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox.clear()  # nobody is there any more
        with contextlib.suppress(FileNotFoundError):  # no longer registered: the owner has gone
            self.poll.modify(self.connection, select.POLLIN | (select.POLLOUT if self.outbox else 0))

    def reap(self) -> None:
        """Take leave of every process that has ended, adopted ones too, and report those that were spawned by name."""
        with contextlib.suppress(BlockingIOError):
            if signal.SIGTERM in os.read(self.wake, 4096):
                self.ended_by = "the keeper got SIGTERM"
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            now = time.monotonic_ns()
            if pid == 0:
                return
            key = self.running.pop(pid, None)
            if key is not None:
                self.report(key, status, now)
            else:
                self.forkservers.ended(pid, status, now)

    def report(self, key: int, status: int, now: int) -> None:
        """Tell the owner how a child ended."""
        code = os.waitstatus_to_exitcode(status)
        end = (code, None) if code >= 0 else (None, -code)
        self.send({"exit": key, "t": now, "code": end[0], "signal": end[1]})

    # Requests

    def do_hello(self, owner: int, watch: list[int]) -> dict[str, Any]:
        """Watch the owner and the processes whose death ends everything."""
        self.owner = owner
        for pid in [owner, *watch]:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return {"missing": pid}
            if self.owner_pidfd < 0:
                self.owner_pidfd = pidfd
            else:
                self.watched[pidfd] = pid
            self.poll.register(pidfd, select.POLLIN)
        return {}

    def do_spawn(
        self, key: int, argv: list[str], path: str, env: dict[str, str], cwd: str, log: str, forks: bool = False
    ) -> dict[str, Any]:
        """Start a process in a group of its own, with default signals, no input, and no file of ours but its log.

        One that *forks* has a socket, too, for :meth:`do_fork`.
        """
        step = "log"
        output = -1
        try:
            output = open_log(log)
            step = "cwd"
            os.chdir(cwd)  # posix_spawn has no working folder of its own; this process has one thread
            step = "exec"
            started = time.monotonic_ns()
            files: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
            files += [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
            if forks:
                files.append((os.POSIX_SPAWN_DUP2, self.forkservers.open(key), 3))
            pid = os.posix_spawn(
                path, argv, env, file_actions=files, setpgroup=0, setsigmask=[], setsigdef=_DEFAULT
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return {"step": step, "error": getattr(error, "strerror", None) or str(error)}
        finally:
            if output >= 0:
                os.close(output)
            if forks:
                self.forkservers.opened(key)
            os.chdir("/")  # keep no folder busy
        self.running[pid] = key
        self.pids[key] = pid
        return {"pid": pid, "t": started}

    def do_fork(self, **request: Any) -> dict[str, Any] | None:
        """Let a forkserver start a process that it has the imports for."""
        return self.forkservers.ask(self.number, **request)

    def do_signal(self, key: int, sig: int, group: bool) -> dict[str, Any]:
        """Signal a child that is not reaped, so that its pid is its own, or its process group while any of it lives."""
        pid = self.pids[key]
        if self.running.get(pid) == key:
            return {"sent": _send(-pid if group else pid, sig)}
        return {"sent": group and bool(self.orphans_of_group(key)) and _send(-pid, sig)}

    def do_signal_pid(self, key: int, pid: int, sig: int) -> dict[str, Any]:
        """Signal one process that descends from a child. The pidfd pins it before its ancestry is read."""
        with contextlib.suppress(ProcessLookupError, ValueError):
            pidfd = os.pidfd_open(pid)
            try:
                root = self.pids[key]
                if self.running.get(root) == key and pid in descendants(root):
                    signal.pidfd_send_signal(pidfd, sig)
                    return {"sent": True}
            finally:
                os.close(pidfd)
        return {"sent": False}

    def do_end_all(self, spare: list[int]) -> dict[str, Any]:
        """Kill everything but the children with these keys and what descends from them."""
        spare = [*spare, *self.forkservers.sockets.values()]
        return {"left": self.kill_all({self.pids[key] for key in spare if self.running.get(self.pids[key]) == key})}

    def do_folder(self, base: str) -> dict[str, Any]:
        """Make a temporary folder here, not in the owner, which could be killed before it has told us its name."""
        path = os.path.join(base, "chaos-" + os.urandom(5).hex())
        os.mkdir(path, 0o700)
        self.folders.append(path)
        return {"path": path}

    def do_remove_folder(self, path: str) -> dict[str, Any]:
        if path in self.folders:  # never anything but what was made here
            self.folders.remove(path)
            remove_tree(path)
        return {}

    def do_run_begun(self, folder: str) -> dict[str, Any]:
        self.runs.append(folder)
        return {}

    def do_run_ended(self, folder: str) -> dict[str, Any]:
        self.runs = [run for run in self.runs if run != folder]
        return {}

    def do_engine(self, address: str, label: str) -> dict[str, Any]:
        self.engines.append((address, label))
        return {}

    def do_stay(self) -> dict[str, Any]:
        """Outlive the owner: from now on a SIGTERM to this process ends everything, and nothing else does."""
        for pidfd in [self.owner_pidfd, *self.watched]:
            self.poll.unregister(pidfd)
        signal.signal(signal.SIGTERM, lambda *_: None)  # a handler, so that the wake-up pipe is written
        self.stays = True
        return {}

    def do_close(self) -> dict[str, Any]:
        self.ended_by = "closed before the run had ended"
        return {}

    # Killing

    def orphans_of_group(self, key: int) -> list[int]:
        """The adopted processes in the group of a child; none if its number is by now that of another child's group."""
        group = self.pids[key]
        if self.running.get(group, key) != key:
            return []
        return [pid for pid in descendants(os.getpid(), self.running) if group_of(pid) == group]

    def kill_all(self, spared: Collection[int] = ()) -> list[int]:
        """Kill and reap every child but the *spared*, until there is none: what a killed one leaves becomes our child.

        So only children are ever signalled, whose pids cannot be anybody else's before they are reaped here; and a
        process that hands on to a fork of itself all the time wakes us with each exit, when its successor is youngest.

        :return: the pids that would not die within :data:`KILL_SECONDS`.
        """
        deadline = time.monotonic() + KILL_SECONDS
        while True:
            self.reap()
            left = [pid for pid in children_of(os.getpid()) if pid not in spared]
            if not left or time.monotonic() > deadline:
                return left
            for pid in left:
                _send(pid, signal.SIGKILL)
            select.select([self.wake], [], [], 0.02)

    def do_end(self, key: int) -> dict[str, Any]:
        """Kill and reap a child with all that descends from it, and the rest of its group.

        All are stopped before any is killed, for the orphans of a killed one could no longer be told from others.
        """
        deadline = time.monotonic() + KILL_SECONDS
        root = self.pids[key]
        doomed: list[int] = []
        fresh = [root] if self.running.get(root) == key else []
        while fresh and time.monotonic() < deadline:
            for pid in fresh:
                _send(pid, signal.SIGSTOP)
            doomed += fresh
            fresh = [pid for pid in descendants(root) if pid not in doomed]
        while True:
            orphans = self.orphans_of_group(key)
            alive = set(descendants(os.getpid()))
            doomed = [pid for pid in doomed if pid in alive]
            if not (doomed or orphans) or time.monotonic() > deadline:
                return {"left": doomed + orphans}
            for pid in doomed:
                _send(pid, signal.SIGKILL)
            if orphans:
                _send(-root, signal.SIGKILL)
            select.select([self.wake], [], [], 0.02)
            self.reap()

    def clean_up(self, reason: str) -> None:
        """Leave nothing behind: processes first, since a live one could still write into what is removed."""
        left = self.kill_all()
        for folder in self.runs:
            mark_interrupted(folder, reason)
        if self.engines:
            from .labelled import remove

            for address, label in self.engines:
                # What the owner had asked for when it died may appear only now.
                remove(address, label, looks=1 if self.close_request is not None else 3)
        for folder in self.folders:
            remove_tree(folder)
        if self.close_request is not None:
            self.send({"n": self.close_request, "left": left})
            while self.outbox and select.select([], [self.connection], [], 1.0)[1]:
                self.flush()


def _become_subreaper() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def main() -> None:
    """Serve the owner at the other end of the inherited socket, then clean up whatever happened."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wake-up pipe is written
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    _become_subreaper()
    os.chdir("/")
    keeper = KeeperProcess(connection)
    try:
        keeper.serve()
    except BaseException as error:
        keeper.ended_by = f"the keeper failed: {type(error).__name__}: {error}"
        with contextlib.suppress(Exception):
            keeper.send({"crash": keeper.ended_by})
    try:
        keeper.clean_up(keeper.ended_by or "the keeper ended")
    finally:
        os._exit(0)  # skips the interpreter's own end
