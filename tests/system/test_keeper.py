"""The keeper starts processes cleanly, reports how they end, signals only what is meant, and closes for good."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_celery_chaos.errors import KeeperGone, StartFailed, UsageError, WaitExpired
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Child, Keeper

from .conftest import Script, processes_with, state_of

ABOUT_ITSELF = """
import json, os, signal
files = {}
for fd in os.listdir("/proc/self/fd"):
    try: files[fd] = os.readlink("/proc/self/fd/" + fd)
    except OSError: pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"files": files, "ignored": status["SigIgn"].strip(), "blocked": status["SigBlk"].strip(),
    "group": os.getpgrp(), "pid": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ), "parent": os.getppid()}))
"""
# Python ignores the first two in itself; the C library's posix_spawn the last two, which are its own.
HARMLESS = sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ, 32, 33))
SLEEP = "import time; print('up', flush=True); time.sleep(30)"


def all_live(pids: list[int]) -> bool:
    """Whether none is gone, dead, or killed and on its way there."""
    return all(state_of(pid) not in ("", "Z", "X") for pid in pids)


def eventually(probe: Callable[[], object], what: str) -> None:
    wait.until(lambda: bool(probe()), what=what, timeout=5)


def test_a_child_gets_exactly_what_it_was_given(script: Script, keeper: Keeper) -> None:
    folder = script.folder / "work"
    folder.mkdir()
    child = script.start(ABOUT_ITSELF, env={"ONE": "1", "ODD": "a\nb=\udce4"}, cwd=folder)
    assert child.wait(5).code == 0
    seen = json.loads(script.said()[0])
    assert seen["files"].pop("0") == "/dev/null"
    assert seen["files"].pop("1") == str(script.log)
    assert seen["files"].pop("2") == str(script.log)
    assert [name for name in seen["files"].values() if "/proc/" not in name] == []
    assert seen["group"] == seen["pid"] == child.pid
    assert seen["parent"] == keeper.pid
    assert seen["cwd"] == str(folder)
    assert {name: value for name, value in seen["env"].items() if name != "LC_CTYPE"} == {
        "ONE": "1",
        "ODD": "a\nb=\udce4",
    }
    assert int(seen["ignored"], 16) & ~HARMLESS == 0, "the keeper's ignored signals must not be inherited"
    assert int(seen["blocked"], 16) == 0


def test_logs_are_appended_to(script: Script) -> None:
    for word in ("one", "two"):
        script.start(f"import sys; print('{word}'); print('{word} error', file=sys.stderr)").wait(5)
    assert sorted(script.said()) == ["one", "one error", "two", "two error"]


def test_an_exit_code_is_reported_with_its_time(script: Script) -> None:
    before = time.monotonic_ns()
    child = script.start("raise SystemExit(7)")
    end = child.wait(5)
    assert (end.code, end.signal, str(end)) == (7, None, "exit code 7")
    assert before < child.started < end.t < time.monotonic_ns()
    assert child.exit == end
    assert not child.alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_a_signal_that_ends_a_child_is_reported(script: Script, number: signal.Signals) -> None:
    child = script.keeper.spawn("s", ["sleep", "30"], env=dict(os.environ), cwd=script.folder, log=script.log)
    assert child.alive
    assert child.signal(number)
    end = child.wait(5)
    assert (end.code, end.signal, str(end)) == (None, number, f"killed by {number.name}")
    assert not child.signal(number), "it is gone"


def test_on_exit_has_run_when_wait_returns_and_its_errors_are_shown(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(str(args.exc_value)))
    seen: list[str] = []

    def note(child: Child) -> None:
        seen.append(f"{child.name} {child.exit}")
        raise ValueError("mistake in a callback")

    script.start("", name="a", on_exit=note).wait(5)
    assert seen == ["a exit code 0"]
    eventually(lambda: shown == ["mistake in a callback"], "the error of the callback")
    assert script.start("").wait(5).code == 0, "the reader lives on"


def test_on_exit_may_not_ask_the_keeper(script: Script) -> None:
    refused: list[str] = []

    def asks(child: Child) -> None:
        try:
            script.keeper.temp_folder()
        except UsageError as error:
            refused.append(str(error))

    script.start("", on_exit=asks).wait(5)
    assert refused == ["on_exit asked the keeper to folder\n  hint: only note the exit there, and act elsewhere"]


def test_two_hundred_children_from_four_threads_are_all_reported_once(script: Script) -> None:
    ended: list[int] = []
    codes: list[int | None] = []

    def some(first: int) -> None:
        for code in range(first, first + 50):
            child = script.keeper.spawn(
                f"c{code}", ["sh", "-c", f"exit {code}"], env=dict(os.environ), cwd=script.folder, log=script.log,
                on_exit=lambda child: ended.append(child.pid),
            )  # fmt: skip
            codes.append(child.wait(5).code)

    threads = [threading.Thread(target=some, args=(first,)) for first in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code in codes if code is not None) == list(range(200))
    assert len(ended) == 200


def test_a_round_trip_is_quick(script: Script) -> None:
    """The least of many, since other processes may use all cores."""

    def seconds() -> float:
        begun = time.perf_counter()
        script.keeper.spawn("t", ["/bin/true"], env={}, cwd=script.folder, log=script.log)
        return time.perf_counter() - begun

    least = min(seconds() for _ in range(50))
    assert least < 0.003, f"a round trip took {least * 1000:.2f} ms"


def test_the_keeper_costs_little_to_start() -> None:
    """Its processor time beside that of an interpreter that does nothing, taken in turn on the same machine."""
    nothing = [sys.executable, "-I", "-S", "-c", "import time; print(time.process_time_ns())"]
    ratios = []
    for _ in range(7):
        bare = int(subprocess.run(nothing, capture_output=True, check=True).stdout)
        with Keeper() as keeper:
            spent = int(Path(f"/proc/{keeper.pid}/schedstat").read_text().split()[0])
        ratios.append(spent / bare)
    assert min(ratios) < 6, f"{ratios} times an interpreter's own start"


@pytest.mark.parametrize(
    ("argv", "more", "said"),
    [
        (["no-such-program"], {}, "a: 'no-such-program' is not in PATH\n  hint: install it or give its full path"),
        (["/no/such"], {}, "a: cannot be started: '/no/such': No such file or directory"),
        (["/etc/passwd"], {}, "a: cannot be started: '/etc/passwd': Permission denied"),
        (["/bin/true"], {"cwd": Path("/no/folder")}, "its working folder /no/folder: No such file or directory"),
        (["/bin/true"], {"log": Path("/no/folder/log")}, "its log /no/folder/log: No such file or directory"),
        (["/bin/true"], {"env": {"A=B\0": "x"}}, "cannot be started: '/bin/true':"),
    ],
)
def test_what_cannot_be_started_says_why(script: Script, argv: list[str], more: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"env": dict(os.environ), "cwd": script.folder, "log": script.log, **more}
    with pytest.raises(StartFailed) as caught:
        script.keeper.spawn("a", argv, **options)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert script.start("").wait(5).code == 0, "the keeper lives on"


def test_what_is_too_large_is_refused_before_it_is_sent(script: Script) -> None:
    with pytest.raises(UsageError, match="bytes of arguments and environment"):
        script.start("", env={"A": "x" * 2_000_000})
    assert script.start("", env={"A": "x" * 120_000}).wait(5).code == 0


def test_a_wait_that_expires_says_what_the_process_does(script: Script) -> None:
    child = script.start(SLEEP, name="worker:a")
    eventually(script.said, "the script to be up")
    child.signal(signal.SIGSTOP)
    eventually(lambda: child.state() == "stopped", "the stop")
    with pytest.raises(
        WaitExpired, match=rf"^worker:a \(pid {child.pid}\) to exit: nothing after 0.05 s; last seen: stopped$"
    ):
        child.wait(0.05)
    assert child.alive, "a stopped process is alive"


POOL = """
import os, time
read, write = os.pipe()
for number in range(3):
    if os.fork() == 0:
        if number == 2: os.setsid()
        os.write(write, b"x")
        time.sleep(30)
        os._exit(0)
    os.read(read, 1)
print("up", flush=True)
time.sleep(30)
"""


def pool(script: Script, name: str = "pool") -> tuple[Child, list[int]]:
    before = len(script.said())
    child = script.start(POOL, name=name)
    eventually(lambda: len(script.said()) > before, "the pool to be up")
    members = child.children()
    assert len(members) == 3
    return child, members


def test_one_process_of_a_pool_is_signalled_alone(script: Script) -> None:
    child, members = pool(script)
    assert child.signal_pid(members[1], signal.SIGSTOP)
    eventually(lambda: [state_of(pid) == "T" for pid in members] == [False, True, False], "one of three to be stopped")
    assert not child.signal_pid(os.getpid(), signal.SIGCONT), "this process does not descend from it"
    assert not child.signal_pid(child.pid, signal.SIGCONT), "nor does it from itself"
    assert not child.signal_pid(2**22 + 1, signal.SIGCONT), "there is no such process"
    other, _ = pool(script, "other")
    assert not other.signal_pid(members[0], signal.SIGCONT), "it is another's"


def test_a_group_is_signalled_and_outlives_its_leader(script: Script) -> None:
    child, (first, second, apart) = pool(script)
    child.signal(signal.SIGKILL)
    child.wait(5)
    assert all_live([first, second])
    assert child.children() == []
    assert not child.signal(signal.SIGTERM), "the process is gone"
    assert child.signal(signal.SIGTERM, group=True), "its group is not"
    eventually(lambda: not state_of(first) and not state_of(second), "the group to end")
    assert not child.signal(signal.SIGTERM, group=True), "now it is"
    assert all_live([apart]), "what has left the group is left alone"


def test_end_kills_a_tree_and_nothing_else(script: Script) -> None:
    child, members = pool(script)
    other, others = pool(script, "other")
    child.signal_pid(members[0], signal.SIGSTOP)
    assert script.keeper.end(child).signal == signal.SIGKILL
    assert [state_of(pid) for pid in [child.pid, *members]] == [""] * 4
    assert all_live([other.pid, *others])
    assert script.keeper.end(child) == child.exit, "harmless when done before"


def test_end_all_spares_what_it_is_told_to(script: Script) -> None:
    child, members = pool(script)
    child.signal(signal.SIGKILL)
    child.wait(5)  # leaves three orphans
    spared, kept = pool(script, "spared")
    second, _ = pool(script, "second")
    script.keeper.end_all(spare=[spared, child])
    assert [state_of(pid) for pid in members] == [""] * 3
    assert not second.alive
    assert all_live([spared.pid, *kept])
    script.keeper.end_all()
    assert not spared.alive


def test_what_is_no_signal_is_refused(script: Script) -> None:
    child = script.start(SLEEP)
    with pytest.raises(UsageError, match="999 is not a signal of this system"):
        child.signal(999)


def test_close_ends_all_and_may_be_called_again(tmp_path: Path) -> None:
    keeper = Keeper()
    script = Script(keeper, tmp_path)
    child, members = pool(script)
    folder, run, done = keeper.temp_folder(), tmp_path / "run", tmp_path / "done"
    (folder / "file").touch()
    for path in (run, done):
        path.mkdir()
        keeper.run_begun(path)
        (path / "run.json").write_text('{"status": "running"}')
    keeper.run_ended(done)
    keeper.close()
    keeper.close()
    assert not child.alive
    assert [state_of(pid) for pid in members] == [""] * 3
    assert not folder.exists()
    assert json.loads((run / "run.json").read_text()) == {
        "status": "interrupted", "ended_by": "closed before the run had ended",
    }  # fmt: skip
    assert json.loads((done / "run.json").read_text()) == {"status": "running"}
    assert state_of(keeper.pid) == ""
    assert not child.signal(signal.SIGTERM)
    with pytest.raises(KeeperGone, match="the keeper is closed"):
        script.start("")


def test_a_run_that_said_it_finished_is_believed(tmp_path: Path) -> None:
    with Keeper() as keeper:
        keeper.run_begun(tmp_path)
        keeper.run_begun(tmp_path / "gone")
        (tmp_path / "run.json").write_text('{"status": "finished"}')
    assert json.loads((tmp_path / "run.json").read_text()) == {"status": "finished"}


def test_a_run_killed_while_its_record_was_written_says_interrupted(tmp_path: Path) -> None:
    with Keeper() as keeper:
        keeper.run_begun(tmp_path)
        (tmp_path / "run.json").write_text('{"status": "run')
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"


def test_a_temporary_folder_has_room_for_a_unix_socket(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = keeper.temp_folder()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "a-rather-long-name-for-a-broker.sock"))
    assert folder.stat().st_mode & 0o777 == 0o700
    keeper.remove_folder(folder)
    assert not folder.exists()
    keeper.remove_folder(tmp_path)
    assert tmp_path.exists(), "only what was made here is removed"


def test_a_temporary_folder_is_made_where_one_can_be(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, short_folder: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(short_folder / "none"))
    monkeypatch.setenv("TEMP", str(short_folder))
    assert keeper.temp_folder().parent == short_folder
    assert len(list(short_folder.iterdir())) == 1, "and nothing else was tried there"
    monkeypatch.setattr("tempfile.tempdir", str(short_folder / "none"))
    with pytest.raises(StartFailed, match=rf"no temporary folder can be made in {short_folder}/none: .*No such file"):
        keeper.temp_folder()


def test_a_keeper_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    keeper = Keeper()
    script = Script(keeper, tmp_path)
    child, members = pool(script)
    folder = keeper.temp_folder()
    keeper.run_begun(tmp_path)
    os.kill(keeper.pid, signal.SIGKILL)
    with pytest.raises(KeeperGone, match=rf"the end of pool \(pid {child.pid}\) is not known"):
        child.wait(5)
    eventually(lambda: all(state_of(pid) in ("", "Z") for pid in [child.pid, *members]), "the pool to be gone")
    assert not folder.exists()
    assert json.loads((tmp_path / "run.json").read_text())["ended_by"] == f"the keeper (pid {keeper.pid}) died"
    with pytest.raises(KeeperGone, match="died"):
        keeper.temp_folder()
    keeper.close()


def test_a_watched_process_must_run() -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    with pytest.raises(UsageError, match=f"process {gone.pid} cannot be watched: it does not run"):
        Keeper(watch=[gone.pid])


def test_a_keeper_that_nobody_closes_ends_with_its_process(tmp_path: Path) -> None:
    token = os.urandom(8).hex()
    code = (
        "import os; from pathlib import Path; from pytest_celery_chaos.system.keeper import Keeper; k = Keeper();"
        "k.spawn('s', ['sleep', '30'], env=dict(os.environ), cwd=Path('/'), log=Path('/dev/null'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "T": token}, capture_output=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert processes_with(token) == []


def test_the_keeper_ignores_what_ends_others_and_is_in_a_session_of_its_own(script: Script) -> None:
    for name in ("INT", "TERM", "HUP", "QUIT", "PIPE"):
        os.kill(script.keeper.pid, signal.Signals["SIG" + name])
    assert script.start("").wait(5).code == 0
    assert os.getsid(script.keeper.pid) == script.keeper.pid
