"""What was written before a kill is there; nothing is ever written into somebody else's file."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import record
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.ledger import LONGEST, Ledger, clip, clipped
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.mapped import STEP
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.record import MOST_IDS

from .lab import INSIDE

KILLS = 250
#: So many events do not fit into what a mapped ledger takes of the disk at first.
MANY = 2 * STEP // 100


@pytest.fixture(params=["written", "mapped"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """A ledger of each sort."""
    return Ledger(str(tmp_path), "worker:a", mapped=request.param == "mapped")


def text(path: str | Path) -> bytes:
    """What was written into a ledger; a mapped one has NULs behind it."""
    return Path(path).read_bytes().partition(b"\0")[0]


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text(path).splitlines() if line.strip()]


def in_child(work: Any) -> int:
    """Run *work* in a forked child and return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_line_is_the_event_of_the_vocabulary(ledger: Ledger) -> None:
    ledger.write("ack", "ok", "id-1", {"tag": "t"})
    line = text(ledger.path).decode()
    assert line == Event.from_record(json.loads(line)).to_line() + "\n"
    assert Path(ledger.path).name.startswith(f"worker-a.{os.getpid()}.")


def test_threads_number_their_events_without_gaps_and_in_the_order_of_time(ledger: Ledger) -> None:
    threads = [
        threading.Thread(target=lambda: [ledger.write("started", None, "x", {}) for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lines(ledger.path)
    assert [event["n"] for event in found] == list(range(4000))
    assert [event["t"] for event in found] == sorted(event["t"] for event in found)


def test_a_forked_child_writes_its_own_file(ledger: Ledger, tmp_path: Path) -> None:
    ledger.write("hello", None, None, {})
    parents = ledger.path

    def child() -> None:
        ledger.open()
        ledger.write("hello", None, None, {})

    assert in_child(child) == 0
    ledger.write("ready", None, None, {})
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert [event["kind"] for event in lines(parents)] == ["hello", "ready"]
    (theirs,) = [lines(path) for path in files if str(path) != parents]
    assert [(event["n"], event["pid"] == os.getpid()) for event in theirs] == [(0, False)]


def test_a_fork_in_the_middle_of_a_write_does_not_block_the_child(ledger: Ledger) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger._lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def child() -> None:
        signal.alarm(5)
        ledger.open()
        ledger.write("hello", None, None, {})

    assert in_child(child) == 0
    done.set()
    thread.join()


def test_a_signal_handler_may_write_while_its_thread_is_writing(ledger: Ledger) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: ledger.write("signal", None, None, {}) and None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(5000):
            ledger.write("started", None, "x", {})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = lines(ledger.path)
    assert sum(event["kind"] == "started" for event in found) == 5000
    assert sum(event["kind"] == "signal" for event in found) > 0
    assert sorted(event["n"] for event in found) == list(range(len(found)))


@pytest.mark.parametrize("mapped", [False, True])
def test_no_event_is_lost_by_a_kill_at_any_moment(tmp_path: Path, mapped: bool) -> None:
    """A child says how many events it has written, by a pipe, after each; it is killed at a random moment."""
    chance, torn = random.Random(20261121), 0
    for round_ in range(KILLS):
        folder = tmp_path / str(round_)
        folder.mkdir()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            ledger = Ledger(str(folder), "worker:a", mapped=mapped)
            for number in range(1_000_000):
                ledger.write("started", None, f"task-{number}", {"name": "x" * 150})
                os.write(write, b".")
        os.close(write)
        promised = len(os.read(read, 1))
        promised += len(os.read(read, chance.randint(1, 300)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(read, 65536):
            promised += len(more)
        os.close(read)
        (path,) = folder.iterdir()
        *whole, tail = text(path).split(b"\n")
        torn += bool(tail)
        assert [json.loads(line)["n"] for line in whole] == list(range(len(whole)))
        assert len(whole) >= promised
    assert torn <= KILLS // 5


def test_what_cannot_be_written_shows_as_a_gap_and_harms_nobody(tmp_path: Path) -> None:
    def child() -> None:
        ledger = Ledger(str(tmp_path), "worker:a")
        ledger.write("hello", None, None, {})
        size = Path(ledger.path).stat().st_size
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        ledger.write("started", None, "cut", {})
        ledger.write("started", None, "refused", {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        ledger.write("returned", None, "after", {})

    assert in_child(child) == 0
    (path,) = tmp_path.iterdir()
    first, stump, last, end = path.read_bytes().split(b"\n")
    assert json.loads(first)["n"] == 0
    assert len(stump) == 10
    assert json.loads(last)["n"] == 3
    assert end == b""


def test_a_daemon_that_closes_all_files_does_not_get_events_into_its_own(ledger: Ledger) -> None:
    ledger.write("hello", None, None, {})
    number = ledger._file
    assert number is not None
    ours, theirs = socket.socketpair()
    os.close(number)
    os.dup2(theirs.fileno(), number)
    for _ in range(MANY):  # a mapped file needs its number once it has to grow
        ledger.write("started", None, "x", {})
    ours.setblocking(False)
    try:
        leaked = ours.recv(100)
    except BlockingIOError:
        leaked = b""
    assert leaked == b""
    assert [event["n"] for event in lines(ledger.path)] == list(range(1 + MANY))
    assert os.path.sameopenfile(theirs.fileno(), number)
    os.close(number)
    ours.close()
    theirs.close()


def test_long_strings_are_cut_and_odd_values_do_no_harm(ledger: Ledger) -> None:
    assert len(clip("x" * 1000)) == LONGEST
    assert clip("-b redis://me:s3cret@host/0") == "-b redis://me:***@host/0"
    ledger.write("started", None, "x", {"odd": object(), "surrogate": "\udc80", "newline": "a\nb"})
    (event,) = lines(ledger.path)
    assert event["attrs"]["newline"] == "a\nb"
    assert event["attrs"]["surrogate"] == "\udc80"


def run(code: str, folder: Path, **env: str) -> str:
    import subprocess

    environment = {**os.environ, "PYTHONPATH": str(INSIDE), "CELERY_CHAOS_LEDGERS": str(folder), **env}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ODD = st.sampled_from(
    ["é" * (LONGEST + 1), "redis://:secret@here", [1, None, 'a"b'], {"a": [0.5]}, -0.0, True, False, None]
)


@settings(deadline=None)
@given(attrs=st.dictionaries(st.sampled_from("abc"), ODD | st.integers() | st.text(max_size=9), max_size=3))
def test_attributes_are_read_as_what_the_gate_is_told(tmp_path_factory: pytest.TempPathFactory, attrs: Any) -> None:
    ledger = Ledger(str(tmp_path_factory.mktemp("ledgers")), "worker:a")
    ledger.write("store", "ok", None, attrs)
    ledger.close()
    (event,) = lines(ledger.path)
    assert event.get("attrs", {}) == json.loads(json.dumps(clipped(attrs)))


def test_a_python_that_never_imports_celery_writes_nothing(tmp_path: Path) -> None:
    loaded = run("import sys; print([m for m in sys.modules if 'chaos' in m], 'json' in sys.modules)", tmp_path)
    assert loaded.strip() == "['celery_chaos_recorder', 'celery_chaos_recorder.imports'] False"
    assert list(tmp_path.iterdir()) == []


def test_hello_comes_first_in_the_main_process_and_in_each_fork(tmp_path: Path) -> None:
    run(
        """
        import celery, os
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        tmp_path,
        CELERY_CHAOS_SOURCE="client:c",
    )
    main, child = sorted((lines(path)[0] for path in tmp_path.iterdir()), key=lambda event: event["t"])
    assert (main["kind"], main["source"], main["attrs"]["role"]) == ("hello", "client:c", "main")
    assert (child["kind"], child["attrs"]["role"]) == ("hello", "child")
    assert child["attrs"]["ppid"] == main["pid"]
    assert main["attrs"]["versions"]["celery"]
    assert {"monotonic", "realtime", "boottime"} <= main["attrs"].keys()


def test_an_interpreter_started_by_a_recorded_one_says_so(tmp_path: Path) -> None:
    run("import celery, subprocess, sys; subprocess.run([sys.executable, '-c', 'import celery'])", tmp_path)
    roles = sorted(lines(path)[0]["attrs"]["role"] for path in tmp_path.iterdir())
    assert roles == ["main", "spawned"]


def test_another_sitecustomize_runs_as_it_would_without_us(tmp_path: Path) -> None:
    theirs, ledgers = tmp_path / "theirs", tmp_path / "ledgers"
    theirs.mkdir()
    ledgers.mkdir()
    (theirs / "sitecustomize.py").write_text("MARK = 'theirs'\n")
    code = "import sitecustomize; print(sitecustomize.MARK, sitecustomize.__file__)"
    path = os.pathsep.join([str(INSIDE), str(theirs)])
    for more in ({}, {"CELERY_CHAOS_LEDGERS": ""}):
        said = run(code, ledgers, **{"PYTHONPATH": path, **more})
        assert said.split() == ["theirs", str(theirs / "sitecustomize.py")]


def test_an_event_names_the_first_of_very_many_ids_and_their_number(tmp_path: Path) -> None:
    code = """
        import celery
        from celery_chaos_recorder.record import emit
        emit("revoke", "ok", ids=[f"id-{n}" for n in range(70)])
    """
    run(code, tmp_path)
    (path,) = tmp_path.iterdir()
    attrs = lines(path)[-1]["attrs"]
    assert len(attrs["ids"]) == MOST_IDS
    assert attrs["ids_in_all"] == 70


def test_names_of_the_last_tasks_are_known_and_their_number_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_MOST_NAMES", 10)
    recorder = record.Recorder(str(tmp_path), "worker:a", None, "main")
    for number in range(100):
        recorder.remember(f"id-{number}", f"name-{number}")
        known = [recorder.name_of(f"id-{each}") for each in range(number + 1)]
        assert known[-10:] == [f"name-{each}" for each in range(max(0, number - 9), number + 1)]
        assert sum(name is not None for name in known) <= 20
    recorder.ledger.close()


class Meant(Exception):
    """What a signal's handler raises: a soft time limit, the end of a worker."""


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Path]:
    """This process, recorded."""
    record.begin(str(tmp_path), "client:c", None, "test")
    yield tmp_path
    record.end()


def test_what_a_signals_handler_raises_while_an_event_is_written_is_for_the_recorded_code(recorded: Path) -> None:
    fired = raised = 0

    def handler(*_: Any) -> None:
        nonlocal fired
        fired += 1
        raise Meant

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while raised < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                seen = fired
                while fired == seen:
                    record.emit("started", None, "x", name="add", tag="t")
            except Meant:
                raised += 1
            assert raised == fired
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (path,) = recorded.iterdir()
    assert not any(event["kind"] == "hook_failed" for event in lines(path))


def test_an_object_without_a_text_harms_nobody(recorded: Path) -> None:
    record.emit("started", None, "x", odd=Odd())
    (path,) = recorded.iterdir()
    assert "no text" in lines(path)[-1]["attrs"]["error"]
