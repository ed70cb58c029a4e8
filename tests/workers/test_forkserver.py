"""A forked process is what a spawned one is: nobody in it, and nobody who looks at it, can tell."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import need_server
from live import run_text

from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import StartFailed
from pytest_celery_chaos.system import keeper as keeper_module
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Child, Keeper
from pytest_celery_chaos.system.tree import parent_of
from pytest_celery_chaos.values import StartMethod
from pytest_celery_chaos.workers import forkserver
from pytest_celery_chaos.workers.forkserver import Forking
from pytest_celery_chaos.workers.recorded import recorded_environment
from pytest_celery_chaos.workers.runtime import python_for

SETTINGS = {"broker_url": "redis://127.0.0.1:1/0", "result_backend": "redis://127.0.0.1:1/1"}
#: What a process can find out about itself.
TELL = """
import celery
import json, os, random, signal, sys, threading
handlers = {n: str(signal.getsignal(n)) for n in signal.valid_signals()}
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "cwd": os.getcwd(), "name": __name__,
    "file": __file__, "flags": repr(sys.flags), "executable": sys.executable,
    "environ": {k: v for k, v in os.environ.items() if k != "CELERY_CHAOS_FIRST_PID"},
    "leads": os.getpgid(0) == os.getpid(), "parent": os.getppid(), "session": os.getsid(0),
    "first": os.environ["CELERY_CHAOS_FIRST_PID"] == str(os.getpid()),
    "files": sorted(os.listdir("/proc/self/fd")), "mask": sorted(signal.pthread_sigmask(0, [])),
    "in": os.fstat(0).st_rdev, "tty": sys.stdout.isatty(), "buffered": sys.stdout.line_buffering,
    "handlers": handlers, "threads": threading.active_count(),
}))
"""


class Program:
    """A script called ``celery`` of the test's own, and a module, started through a spawner."""

    def __init__(self, keeper: Keeper, folder: Path, code: str) -> None:
        self.keeper, self.folder = keeper, folder
        (folder / "ledgers").mkdir()
        for name in ("celery", "module.py"):
            (folder / name).write_text(code)
        (folder / "forked").mkdir()
        self.forking = Forking(keeper, folder / "forked")

    def start(self, forked: bool, *arguments: str, name: str = "worker:a", **more: str) -> Child:
        spawner = self.forking if forked else self.keeper
        environment = recorded_environment(
            name, ledgers=self.folder / "ledgers", control=self.folder, settings=SETTINGS, extra=more
        )
        line = [sys.executable, *(arguments or [str(self.folder / "celery"), "-A", "app"])]
        return spawner.spawn(name, line, env=environment, cwd=self.folder, log=self.log(forked))

    def log(self, forked: bool) -> Path:
        return self.folder / f"{'forked' if forked else 'spawned'}.log"

    def said(self, forked: bool, *arguments: str) -> dict[str, object]:
        self.start(forked, *arguments).wait(20)
        said: dict[str, object] = json.loads(self.log(forked).read_text().splitlines()[-1])
        return said


def is_forked(child: Child) -> bool:
    """By what cannot be hidden: the command line with which the kernel started it."""
    return b"celery_chaos_forkserver" in Path(f"/proc/{child.pid}/cmdline").read_bytes()


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.mark.parametrize("module", [False, True], ids=["script", "module"])
def test_it_can_find_no_difference(keeper: Keeper, tmp_path: Path, module: bool) -> None:
    program = Program(keeper, tmp_path, TELL)
    arguments = ("-m", "module", "socket") if module else ()
    spawned, forked = program.said(False, *arguments), program.said(True, *arguments)
    assert forked == spawned


SLEEP = "import time; time.sleep(60)"


def test_it_is_the_keepers_child_in_a_group_of_its_own(keeper: Keeper, tmp_path: Path) -> None:
    child = Program(keeper, tmp_path, SLEEP).start(True)
    assert is_forked(child)
    wait.until(lambda: parent_of(child.pid) == keeper.pid, what="the keeper as parent", timeout=5)
    assert os.getpgid(child.pid) == child.pid
    assert child.signal(signal.SIGSTOP)
    assert child.signal(signal.SIGKILL, group=True)
    end = child.wait(5)
    assert (end.code, end.signal) == (None, signal.SIGKILL)
    assert child.started < end.t


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("raise SystemExit(7)", 7),
        ("import os; os._exit(3)", 3),
        ("1 / 0", 1),
        ("import atexit; atexit.register(print)", 0),
    ],
)
def test_it_ends_as_it_would(keeper: Keeper, tmp_path: Path, code: str, exit_code: int) -> None:
    assert Program(keeper, tmp_path, code).start(True).wait(20).code == exit_code


def test_an_end_before_the_keeper_knows_of_it_is_not_lost(keeper: Keeper, tmp_path: Path) -> None:
    program = Program(keeper, tmp_path, "import os; os._exit(5)")
    ends = [program.start(True).wait(20) for _ in range(50)]
    assert [end.code for end in ends] == [5] * 50


def test_what_cannot_be_started_is_told_as_of_a_spawned_one(keeper: Keeper, tmp_path: Path) -> None:
    program = Program(keeper, tmp_path, SLEEP)
    line, environment = [sys.executable, str(tmp_path / "celery")], dict(os.environ)
    for where in (
        {"cwd": tmp_path / "none", "log": tmp_path / "log"},
        {"cwd": tmp_path, "log": tmp_path / "no" / "log"},
    ):
        told = []
        for spawner in (keeper, program.forking):
            with pytest.raises(StartFailed) as caught:
                spawner.spawn("worker:a", line, env=environment, **where)
            told.append(str(caught.value))
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("{celery}", "-A", "app", "worker", "--pool", "gevent"), {}),
        (("{celery}", "-A", "app"), {"C_FORCE_ROOT": "1"}),
        (("-c", SLEEP), {}),
        (("{module}",), {}),
    ],
    ids=["gevent", "a-variable-of-its-own", "code", "another-program"],
)
def test_spawned_where_a_fork_might_differ(
    keeper: Keeper, tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    program = Program(keeper, tmp_path, SLEEP)
    names = {"celery": tmp_path / "celery", "module": tmp_path / "module.py"}
    child = program.start(True, *(argument.format(**names) for argument in arguments), **variables)
    assert not is_forked(child)


def test_another_pythonpath_has_a_forkserver_of_its_own_and_they_are_not_without_number(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "MOST", 2)
    program = Program(keeper, tmp_path, "import sys; print(sys.path)")
    paths = [str(tmp_path / str(number)) for number in range(3)]
    for path in paths:
        program.start(True, PYTHONPATH=path).wait(60)
    said = program.log(True).read_text().splitlines()
    assert [path in line for path, line in zip(paths, said, strict=True)] == [True] * 3
    servers = [server for server in program.forking._servers.values() if server]
    assert len(servers) == 2
    assert all(server.alive for server in servers)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_without_its_forkserver_it_is_spawned(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    program = Program(keeper, tmp_path, SLEEP)
    program.start(True)
    (server,) = filter(None, program.forking._servers.values())
    server.signal(how)
    if how == signal.SIGKILL:
        server.wait(5)
    else:
        monkeypatch.setattr(keeper_module, "ANSWER_SECONDS", 1.0)
    assert not is_forked(program.start(True))
    assert not server.alive
    assert not is_forked(program.start(True))


def test_a_library_that_starts_a_thread_at_import_keeps_it_from_forking(keeper: Keeper, tmp_path: Path) -> None:
    """As an agent that enters by ``sitecustomize`` does: a fork would be without its thread."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    program = Program(keeper, tmp_path, SLEEP)
    child = program.start(True, PYTHONPATH=str(tmp_path))
    assert not is_forked(child)
    assert "does not survive a fork" in (tmp_path / "forked" / "forkserver.log").read_text()


def test_the_end_of_a_run_spares_the_forkserver_and_the_end_of_the_keeper_does_not(tmp_path: Path) -> None:
    with Keeper() as keeper:
        program = Program(keeper, tmp_path, SLEEP)
        child = program.start(True)
        keeper.end_all()
        child.wait(5)
        (server,) = filter(None, program.forking._servers.values())
        assert server.alive
        assert is_forked(program.start(True))
    assert not Path(f"/proc/{server.pid}").exists()


MODULES = """
import os, sys, threading, time
from celery import Celery, signals

app = Celery("modules", broker="redis://", backend="redis://")
source = os.environ.get("CELERY_CHAOS_SOURCE", "test").replace(":", "-")

def tell():
    with open(f"{os.environ['MODULES']}/{source}", "w") as file:
        file.write("\\n".join(sorted(sys.modules)))

@app.task
def job():
    pass

@signals.worker_ready.connect
def ready(**_):
    tell()

@signals.after_task_publish.connect
def published(**_):
    threading.Timer(0.5, tell).start()
"""
SCENARIO = """
app: modules_app:app
workers: {{a: {{pool: {pool}{version}}}}}
steps: [{{send: {{task: modules_app.job}}}}, {{wait: {{after: 1s}}}}]
expect: [{{lost: {{}}}}]
"""


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
@pytest.mark.parametrize(
    "version", [None, "5.3", *(pytest.param(each, marks=pytest.mark.soak) for each in ("5.4", "5.5", "5.6"))]
)
def test_the_modules_that_it_has_imported_are_those_of_a_spawned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str, version: str | None
) -> None:
    """Had it imported more, code that looks for a module, or a hook on its import, would find what it does not use."""
    need_server()
    if version is not None:
        python_for(version)
    (tmp_path / "modules_app.py").write_text(textwrap.dedent(MODULES))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {}
    methods: tuple[StartMethod, ...] = ("spawn", "forkserver")
    for method in methods:
        folder = tmp_path / method
        folder.mkdir()
        monkeypatch.setenv("MODULES", str(folder))
        session = Session(tmp_path / "runs", start_method=method)
        try:
            text = SCENARIO.format(pool=pool, version=f', celery: "{version}"' if version else "")
            assert run_text(session, text).verdict.value == "holds"
        finally:
            session.close()
        found[method] = {name: (folder / name).read_text() for name in ("worker-a", "client-main")}
    assert found["forkserver"] == found["spawn"]
