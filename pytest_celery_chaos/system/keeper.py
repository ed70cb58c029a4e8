"""The harness's side of the keeper: start processes, signal them, know how they end, leave none behind.

The other side is :mod:`pytest_celery_chaos.system.keeper_main`, which says how. One keeper serves one test process.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_celery_chaos.errors import KeeperGone, StartFailed, UsageError, WaitExpired
from pytest_celery_chaos.system import keeper_main, leftovers, tree, wait
from pytest_celery_chaos.system.child import Child, Exit, check_signal
from pytest_celery_chaos.system.forkservers import GONE

__all__ = ["Child", "Exit", "Keeper"]

ANSWER_SECONDS = 3 * keeper_main.KILL_SECONDS
"""How long the keeper may take to answer; it takes milliseconds, unless something cannot be killed."""

_SHORT = 40
"""Characters of a temporary folder's parent that still leave room for a unix socket in it (107 in all)."""


_PACKET_OVERHEAD = 4096
"""Bytes of the send buffer that the kernel may use itself."""

_START = (
    "import sys; sys.path.append(sys.argv[2]); from pytest_celery_chaos.system import keeper_main; keeper_main.main()"
)
_ROOT = str(Path(keeper_main.__file__).parents[2])


class _Answer:
    def __init__(self, child: Child | None) -> None:
        self.child = child
        self.ready = threading.Event()
        self.reply: dict[str, Any] | None = None


def _temporary() -> list[str]:
    """Where temporary folders may be made, best first; ``/tmp`` in the place of a path that is too long.

    As :func:`tempfile.gettempdir` looks for one. Not by it: it tries with a file of its own, which stays where its
    process is killed just then.
    """
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    bases = [tempfile.tempdir] if tempfile.tempdir else [*named, "/tmp", "/var/tmp"]
    paths = [os.fspath(Path(base).absolute()) for base in bases if base]
    return list(dict.fromkeys(path if len(path) <= _SHORT else "/tmp" for path in paths))


class Keeper:
    """Starts the keeper process, in a session of its own; about 20 ms.

    When this process ends, however it ends, everything that was spawned is killed within a fraction of a second.

    :param watch: pids whose death ends everything, this process too: an xdist worker's controller.
    :raises UsageError: if one of them does not run.
    :raises KeeperGone: if the keeper cannot be started.
    """

    def __init__(self, *, watch: Sequence[int] = ()) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._keys = itertools.count(1)
        self._answers: dict[int, _Answer] = {}
        self._children: dict[int, Child] = {}
        self._folders: list[Path] = []
        self._runs: list[Path] = []
        self._gone: str | None = None
        self._closing = False
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Doubled by the kernel, so that a message always fits into one packet.
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, keeper_main.PACKET // 2)
            self._most = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _PACKET_OVERHEAD
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, str(theirs.fileno()), _ROOT],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="celery-chaos keeper", daemon=True)
        self._reader.start()
        _keepers.add(self)
        atexit.register(self.close)
        missing = self._ask("hello", owner=self._owner, watch=list(watch)).get("missing")
        if missing is not None:
            self.close()
            raise UsageError(f"process {missing} cannot be watched: it does not run")

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the keeper."""
        return self._process.pid

    @property
    def environment(self) -> Mapping[str, str]:
        """What the environment of a process of this machine begins with: ours."""
        return os.environ

    def prepare(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], **_: object) -> None:
        """:meth:`spawn` needs nothing beforehand."""

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
        """Start a process: its own process group, default signals, no input, stdout and stderr appended to *log*.

        :param name: what messages call it: ``worker:a``.
        :param argv: the command; without a slash it is looked up in the PATH of *env*.
        :param env: its whole environment.
        :param on_exit: called on the keeper's reader thread before :meth:`Child.wait` returns. It must be quick and
            may not ask the keeper for anything.
        :raises StartFailed: if it cannot be started.
        """
        return self._spawn(Child(self, next(self._keys), name, argv, on_exit), env, cwd, log)

    def forkserver(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Child:
        """:meth:`spawn` a process for :meth:`fork`, with one end of a socket as its file 3.

        It outlives :meth:`end_all`.
        :raises StartFailed: if it cannot be started.
        """
        return self._spawn(Child(self, next(self._keys), name, argv, None), env, Path.cwd(), log, forks=True)

    def fork(
        self,
        server: Child,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[Child], None] | None = None,
    ) -> Child | None:
        """:meth:`spawn`, by a fork of *server*; None where that has ended or does not listen.

        :raises StartFailed: if it cannot be started.
        """
        child = Child(self, next(self._keys), name, argv, on_exit)
        try:
            started = self._start(child, "fork", server=server.key, env=env, cwd=cwd, log=log)
        except WaitExpired:  # it hangs in an import, or is stopped
            server.signal(signal.SIGKILL)
            server.wait(ANSWER_SECONDS)
            started = child.pid != 0
        return child if started else None

    def _spawn(self, child: Child, env: Mapping[str, str], cwd: Path, log: Path, *, forks: bool = False) -> Child:
        program = child.argv[0]
        path = program if "/" in program else shutil.which(program, path=env.get("PATH", os.defpath))
        if path is None:
            raise StartFailed(f"{program!r} is not in PATH", where=child.name, hint="install it or give its full path")
        self._start(child, "spawn", path=path, env=env, cwd=cwd, log=log, forks=forks)
        return child

    def _start(self, child: Child, do: str, *, env: Mapping[str, str], cwd: Path, log: Path, **what: Any) -> bool:
        """Have it started; False where a forkserver was asked that is gone."""
        where = {"cwd": os.fspath(cwd.absolute()), "log": os.fspath(log.absolute())}
        reply = self._ask(do, child, key=child.key, argv=list(child.argv), env=dict(env), **where, **what)
        if "error" not in reply:
            return True
        step = reply.get("step", "")
        if step == GONE:
            return False
        at = {"log": f"its log {log}", "cwd": f"its working folder {cwd}"}.get(step, repr(what.get("path", child.name)))
        raise StartFailed(f"cannot be started: {at}: {reply['error']}", where=child.name, hint="correct the path")

    def send_signal(self, do: str, child: Child, sig: int, **more: Any) -> bool:
        """Send a signal to a child, its group, or one of its own; see :class:`Child`."""
        check_signal(sig)
        if self._gone is not None:
            return False
        return bool(self._ask(do, key=child.key, sig=int(sig), **more).get("sent"))

    def temp_folder(self) -> Path:
        """Make a folder with a short path, removed when this keeper closes or its owner dies.

        :raises StartFailed: none of the folders that :mod:`tempfile` would take can be written to.
        """
        refused = {}
        for base in _temporary():
            reply = self._ask("folder", base=base)
            if "error" not in reply:
                self._folders.append(Path(reply["path"]))
                return self._folders[-1]
            refused[base] = reply["error"]
        reasons = "; ".join(f"{base}: {error}" for base, error in refused.items())
        raise StartFailed(f"no temporary folder can be made in {reasons}", hint="set TMPDIR to a folder of yours")

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of :meth:`temp_folder` now, in a session of many runs; nothing may use it any more."""
        self._ask("remove_folder", path=os.fspath(folder))
        self._folders = [other for other in self._folders if other != folder]

    def run_begun(self, folder: Path) -> None:
        """From now on, should this process die, the run in *folder* is marked as interrupted in its ``run.json``.

        Call it before that file is written: what is killed in between would say ``running`` for ever.
        """
        self._ask("run_begun", folder=os.fspath(folder.absolute()))
        self._runs.append(folder)

    def run_ended(self, folder: Path) -> None:
        """The run in *folder* has told its end itself."""
        self._ask("run_ended", folder=os.fspath(folder.absolute()))
        self._runs = [run for run in self._runs if run != folder]

    def engine(self, address: str, label: str) -> None:
        """From now on, when this keeper closes or its owner dies, what carries *label* is removed from an engine.

        Call it before anything is made there.

        :param address: of the container engine, as in DOCKER_HOST.
        :param label: ``name=value``, of letters, digits, dots and dashes.
        :raises UsageError: the keeper cannot speak to it.
        """
        if not address.startswith(("unix://", "tcp://")):  # those that system/labelled.py speaks to
            raise UsageError(
                f"the container engine at {address} cannot be cleaned up after a crash",
                hint="use one at a unix:// or tcp:// address: DOCKER_HOST",
            )
        self._ask("engine", address=address, label=label)

    def end(self, child: Child) -> Exit:
        """Kill a child, all that descends from it and its process group; return when they are gone.

        :raises WaitExpired: if it would not die.
        """
        if self._gone is None:
            self._ask("end", key=child.key)
        return child.wait(timeout=1.0)

    def end_all(self, *, spare: Sequence[Child] = ()) -> None:
        """Kill all that was spawned or descends from it, daemons too, but *spare* and what descends from those."""
        self._ask("end_all", spare=[child.key for child in spare])

    def stay(self) -> None:
        """Let go instead of :meth:`close`: all that runs, and the temporary folders, outlive this process.

        A SIGTERM to :attr:`pid` ends everything. Until this is called the end of this process does.
        """
        self._ask("stay")
        with self._lock:
            self._closing = True
        self._connection.shutdown(socket.SHUT_RDWR)  # wakes the reader
        self._reader.join(ANSWER_SECONDS)
        self._connection.close()
        self._process.returncode = 0  # it is left running on purpose: no ResourceWarning
        atexit.unregister(self.close)

    def close(self) -> None:
        """Kill all descendants, remove the temporary folders, end the keeper. Harmless when done before."""
        if os.getpid() != self._owner:
            return  # a forked copy: the keeper is the parent's
        with self._lock:
            self._closing = True
        with contextlib.suppress(KeeperGone):
            self._ask("close")
        self._reader.join(ANSWER_SECONDS)
        if self._reader.is_alive():
            self._process.kill()
        self._process.wait()
        self._connection.close()
        atexit.unregister(self.close)

    # The reader thread and its other end

    def _ask(self, do: str, child: Child | None = None, **what: Any) -> dict[str, Any]:
        if os.getpid() != self._owner:
            raise UsageError(f"the keeper belongs to process {self._owner}, not to its fork {os.getpid()}")
        if threading.current_thread() is self._reader:
            raise UsageError(f"on_exit asked the keeper to {do}", hint="only note the exit there, and act elsewhere")
        answer = _Answer(child)
        number = next(self._keys)
        packet = json.dumps({"n": number, "do": do, **what}).encode()
        if len(packet) > self._most:
            raise UsageError(f"{do} with {len(packet)} bytes of arguments and environment: {self._most} at most")
        with self._lock:
            if self._gone is not None:
                raise KeeperGone(self._gone, hint="run again")
            self._answers[number] = answer
            try:
                self._connection.send(packet)
            except OSError as error:
                raise KeeperGone(f"the keeper cannot be reached: {error.strerror}", hint="run again") from error
        wait.for_event(answer.ready, what=f"the keeper's answer to {do!r}", timeout=ANSWER_SECONDS)
        if answer.reply is None:
            raise KeeperGone(self._gone or "the keeper ended", hint="run again")
        return answer.reply

    def _read(self) -> None:
        crash = None
        while True:
            try:
                packet = self._connection.recv(keeper_main.PACKET)
            except OSError:
                break
            if not packet:
                break
            message = json.loads(packet)
            if "exit" in message:
                self._report(message)
            elif "crash" in message:
                crash = message["crash"]
            else:
                self._answered(message)
        self._lost(crash)

    def _answered(self, message: dict[str, Any]) -> None:
        with self._lock:
            answer = self._answers.pop(message["n"])
        if answer.child is not None and "pid" in message:
            # Here, not in the caller: the report of its exit may be the next packet.
            answer.child.pid, answer.child.started = message["pid"], message["t"]
            self._children[answer.child.key] = answer.child
        answer.reply = message
        answer.ready.set()

    def _report(self, message: dict[str, Any]) -> None:
        child = self._children.pop(message["exit"])
        try:
            child.ended(Exit(message["code"], message["signal"], message["t"]))
        except Exception:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), self._reader]))

    def _lost(self, crash: str | None) -> None:
        """The keeper is gone: after close, or because somebody killed it. Then its children are killed from here."""
        with self._lock:
            self._gone = crash or ("the keeper is closed" if self._closing else f"the keeper (pid {self.pid}) died")
            waiting = list(self._answers.values())
            self._answers.clear()
        if not self._closing and os.getpid() == self._owner:
            for child in self._children.values():
                _kill_tree(child.pid)
            for run in self._runs:
                leftovers.mark_interrupted(os.fspath(run.absolute()), self._gone)
            for folder in self._folders:
                leftovers.remove_tree(os.fspath(folder))
        for child in self._children.values():
            child.ended(None)
        for answer in waiting:
            answer.ready.set()


def _kill_tree(pid: int) -> None:
    """Kill a child that has lost its keeper, as well as can be done without one: what has left the tree escapes."""
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:  # else it has ended, and the pid may be another's
            below = tree.descendants(pid)
            os.killpg(pid, signal.SIGKILL)
            for other in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def _forget_in_fork() -> None:
    """A fork must not hold the keeper's pipe open, or the keeper would outlive its owner."""
    for keeper in list(_keepers):
        keeper._connection.close()


os.register_at_fork(after_in_child=_forget_in_fork)
