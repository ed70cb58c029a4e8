"""A Python that has imported Celery, and nothing of the application, and forks a process for each request.

To import Celery takes half a second of a core, ten times what else a worker needs to start. The fork goes on as if
Python had been started for it: its own arguments, environment, working folder, log, process group and parent. The
modules that it finds imported are those that every worker (or client) imports before it looks at its application; the
patches of the recorder are in them, the ledger is opened in the fork.

Started by the keeper with the other end of its socket as file 3: one JSON document a packet, beside which comes the
open log. What cannot be done in here ends the server, and the harness starts processes without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SOCKET = 3
PACKET = 1 << 20
#: Seconds that a worker in a container waits for its servers at most.
MOST_WAITED = 300
_BOTH = (
    "celery",
    "celery.app.base",
    "celery.app.amqp",
    "celery.app.events",
    "celery.app.builtins",
    "celery.app.autoretry",
    "celery.loaders.app",
    "celery.backends.redis",
    "celery.fixups.django",
    "kombu.transport.redis",
)
#: By role: what every process of that role imports, whatever its pool and application. Older versions lack some.
PRELOADED = {
    "worker": (
        "celery.__main__",
        "celery.bin.celery",
        "celery.apps.worker",
        *_BOTH,
        "celery.app.control",
        "celery.app.log",
        "celery.events",
        "celery.utils.static",
        "celery.utils.sysinfo",
        "celery.worker.autoscale",
        "celery.worker.components",
        "celery.worker.consumer",
        "celery.worker.consumer.delayed_delivery",
        "celery.worker.control",
        "celery.worker.loops",
        "celery.worker.strategy",
        "billiard.pool",
        "kombu.mixins",
        "mmap",
        "encodings.idna",
    ),
    "client": (*_BOTH, "celery.canvas", "celery.result", "mmap", "encodings.idna"),
}


def preload(role: str) -> None:
    """Import what a process of that role needs; its ledger is opened by :func:`enter`."""
    from importlib import import_module

    from celery_chaos_recorder import record  # type: ignore[import-not-found]

    record.await_fork()
    with _spared_the_collector():
        for name in PRELOADED[role]:
            with contextlib.suppress(ModuleNotFoundError):
                import_module(name)


@contextlib.contextmanager
def _spared_the_collector() -> Iterator[None]:
    """What is made in here is not looked at by the garbage collector, now or later: next to nothing of it ever ends.

    It takes a tenth of the time of such imports. And before it forks, a pool collects (billiard): 60 ms, if all this is
    looked at.
    """
    there = "gc" in sys.modules
    import gc

    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if not there:  # nobody else has imported it
            del sys.modules["gc"]


def check() -> None:
    """Make sure that a fork of this process is as good as a new one."""
    from celery import _state

    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads > 1 or _state.default_app is not None or "coverage" in sys.modules:
        raise SystemExit("something of this environment does not survive a fork")


def serve(connection: socket.socket) -> list[str] | None:
    """Fork for each request, until the keeper hangs up (None). In the fork: return what its command line is to be."""
    while packet := _receive(connection):
        request, log = packet
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            connection.close()
            os.close(reader)
            return _middle(writer, request, log)
        os.close(log)
        os.close(writer)
        with open(reader, "rb") as answer:  # noqa: PTH123
            told = answer.read()
        os.waitpid(middle, 0)  # from now on the fork is a child of the keeper, which may be asked to end all it has
        connection.send(told)
    return None


def _receive(connection: socket.socket) -> tuple[dict[str, Any], int] | None:
    packet, files, _, _ = socket.recv_fds(connection, PACKET, 1)
    return (json.loads(packet), files[0]) if packet else None


def _middle(writer: int, request: dict[str, Any], log: int) -> list[str]:
    """Fork once more and end, so that the fork becomes a child of the keeper: that is its subreaper."""
    me, answer = os.getpid(), {"n": request["n"]}
    step = "cwd"
    try:
        os.chdir(request["cwd"])
        step = "exec"
        started = time.monotonic_ns()
        pid = os.fork()
    except OSError as error:
        answer |= {"step": step, "error": error.strerror}
    else:
        if pid == 0:
            os.close(writer)
            return _become(request, log, me)
        with contextlib.suppress(OSError):
            os.setpgid(pid, 0)  # here too: a signal to the group may come as soon as the answer is sent
        answer |= {"pid": pid, "t": started}
    try:
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _become(request: dict[str, Any], log: int, parent: int) -> list[str]:
    os.setpgid(0, 0)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    while os.getppid() == parent:
        time.sleep(0.0001)  # it is about to end; who asks for its parent shall be told the keeper
    os.environ.clear()
    os.environ.update(request["env"])
    return request["argv"]  # type: ignore[no-any-return]


def await_go(path: str) -> None:
    """In a worker's container, which runs before there are servers: import Celery, and go on once *path* is there.

    What the harness says of this run is hidden meanwhile, as a forkserver does not know it.
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith("CELERY_CHAOS_")}
    for name in hidden.keys() - {"CELERY_CHAOS_LEDGERS", "CELERY_CHAOS_VALKEY"}:
        del os.environ[name]
    preload("worker")
    end = time.monotonic() + MOST_WAITED
    while not os.path.exists(path):  # noqa: PTH110
        if time.monotonic() > end:
            raise SystemExit(f"celery-chaos: nobody has started this worker for {MOST_WAITED} s")
        time.sleep(0.002)
    os.environ.update(hidden)
    enter(sys.orig_argv)


def enter(argv: list[str]) -> None:
    """Do what Python does between its start and the first line of a script, and the recorder at Celery's import."""
    from celery_chaos_recorder import overlay, record

    sys.orig_argv = argv
    record.begin_from_environment()
    overlay.lay_from_environment()


def run(argv: list[str]) -> None:
    """Run the script, or ``-m`` module, of a command line as ``__main__``."""
    if argv[1] == "-m":
        from runpy import run_module

        sys.path[0] = os.getcwd()  # noqa: PTH109
        sys.argv = argv[2:]
        run_module(argv[2], run_name="__main__", alter_sys=True)
        return
    from types import ModuleType

    sys.path[0] = os.path.dirname(argv[1])  # noqa: PTH120
    sys.argv = argv[1:]
    with open(argv[1], "rb") as file:  # noqa: PTH123
        code = compile(file.read(), argv[1], "exec")
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__file__ = argv[1]
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    exec(code, main.__dict__)


if __name__ == "__main__":
    preload(sys.argv[1])
    check()
    line = serve(socket.socket(fileno=SOCKET))
    if line is not None:
        enter(line)
        run(line)
