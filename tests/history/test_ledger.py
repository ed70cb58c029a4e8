"""The ledger keeps what was written; its tail sees it all, once, and nothing unfinished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_celery_chaos.errors import StoredRunError
from pytest_celery_chaos.history.log import History, Ledger, Tail
from pytest_celery_chaos.history.store import read_ledgers


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_first_event_is_hello(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger:
        (hello,) = records(ledger.path)
    assert (hello["kind"], hello["n"], hello["source"], hello["pid"]) == ("hello", 0, "harness", os.getpid())
    attrs = hello["attrs"]
    assert isinstance(attrs, dict)
    assert {"role", "argv", "ppid", "versions", "monotonic", "realtime", "boottime"} <= attrs.keys()


def test_an_event_about_somebody_else_says_who_wrote_it(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger:
        event = ledger.emit("offline", source="worker:a", code=None, signal="SIGKILL", asked=True)
        own = ledger.emit("step", "ok", index=1, verb="send", name=None)
    assert (event.source, event.by, event.n) == ("worker:a", "harness", 1)
    assert (own.source, own.by, own.n) == ("harness", None, 2)
    assert ledger.path.name.startswith(f"harness.{os.getpid()}.")


def test_passwords_are_taken_out_wherever_they_stand(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger:
        event = ledger.emit(
            "fault", "fail", error="redis://u:secret@h/0 is gone", args={"urls": ["rediss://:secret@h"]}
        )
    assert "secret" not in ledger.path.read_text()
    assert event.attrs["args"] == {"urls": ["rediss://:***@h"]}


def test_threads_write_whole_lines_numbered_without_gaps(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger:
        threads = [
            threading.Thread(target=lambda: [ledger.emit("step", "ok", index=i) for i in range(500)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    written = records(ledger.path)
    assert [record["n"] for record in written] == list(range(4001))
    times = [record["t"] for record in written]
    assert times == sorted(times)  # type: ignore[type-var]


def test_an_event_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "harness")
    ledger.close()
    ledger.close()
    with pytest.raises(StoredRunError, match="cannot be written"):
        ledger.emit("end")


def test_the_tail_sees_new_events_of_old_and_new_files_once(tmp_path: Path) -> None:
    with Tail(tmp_path) as tail, Ledger(tmp_path, "harness") as one:
        assert [e.kind for e in tail.read()] == ["hello"]
        assert tail.read() == []
        one.emit("run", id="r")
        with Ledger(tmp_path, "client:main") as two:
            two.emit("publish", "invoke", "t1")
            assert [(e.source, e.kind) for e in tail.read()] == [
                ("harness", "run"),
                ("client:main", "hello"),
                ("client:main", "publish"),
            ]
        assert tail.read() == []


def test_the_tail_keeps_an_unfinished_line_for_later(tmp_path: Path) -> None:
    line = b'{"t":5,"source":"worker:a","kind":"popped","task":"\xc3\xa4","pid":1,"n":0}\n'
    path = tmp_path / "worker-a.1.1.ndjson"
    with Tail(tmp_path) as tail:
        for length in range(1, len(line)):
            path.write_bytes(line[:length])
            assert tail.read() == []
            tail.close()
        with path.open("wb") as file:
            for byte in line[:-1]:
                file.write(bytes([byte]))
                file.flush()
                assert tail.read() == []
            file.write(b"\n")
        assert [e.task for e in tail.read()] == ["ä"]
        assert tail.broken == []


def test_the_tail_goes_on_behind_a_broken_line_and_tells_of_it(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger, Tail(tmp_path) as tail:
        os.write(ledger._fd, b'{"t":1,"so\n\n[]\n7\n   \n{"t":"x","source":"a","kind":"b"}\n')
        ledger.emit("end")
        assert [e.kind for e in tail.read()] == ["hello", "end"]
        # A blank line is none.
        broken = [text.partition(": ")[2] for text in tail.broken]
        assert broken == ['{"t":1,"so', "[]", "7", '{"t":"x","source":"a","kind":"b"}']


def test_the_tail_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with Tail(tmp_path) as tail:
        assert tail.read() == []


WRITER = """
import os, sys
from pathlib import Path
from pytest_celery_chaos.history.log import Ledger
ledger = Ledger(Path(sys.argv[1]), "client:main")
for number in range(10**9):
    ledger.emit("publish", "ok", f"t{number}", name="add", note="x" * 300)
    if number == 200:
        os.write(1, b"go")
"""


@pytest.mark.parametrize("nth", range(5))
def test_what_was_written_before_a_sigkill_is_there(tmp_path: Path, nth: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(2) == b"go"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    events, header = read_ledgers(tmp_path)
    assert len(events) > 200
    assert [e.n for e in sorted(events, key=lambda e: e.n)] == list(range(len(events)))
    assert header.broken == []
    # A torn tail is nothing where the process was killed; nobody has told this history that it was.
    assert History(events).defects() == []
