"""A ledger that is written through memory: where it cannot be, or no longer, its lines are written as any others."""

from __future__ import annotations

import mmap
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.history.ledger import Tail
from pytest_celery_chaos.history.store import read_ledgers
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import mapped
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.ledger import Ledger

from .test_ledger import MANY, in_child, lines, text


def write(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        ledger.write("started", None, "x" * 40, {})


def read_as_it_grows(folder: Path) -> Ledger:
    """A new ledger of many events, each of which is read at once, and all again at the end."""
    ledger = Ledger(str(folder), "worker:a", mapped=True)
    with Tail(folder) as tail:
        for number in range(MANY):
            write(ledger, 1)
            assert [event.n for event in tail.read()] == [number]
        assert not tail.broken
    events, header = read_ledgers(folder)
    assert [event.n for event in events] == list(range(MANY))
    assert not header.torn
    assert not header.broken
    return ledger


def test_it_takes_disk_step_by_step_and_is_read_as_it_grows(tmp_path: Path) -> None:
    ledger = read_as_it_grows(tmp_path)
    size = Path(ledger.path).stat().st_size
    assert size % mapped.STEP == 0
    assert size - mapped.STEP < len(text(ledger.path)) <= size


@pytest.mark.parametrize("cannot", [OSError("no such device"), ValueError("too long")])
def test_where_a_file_system_cannot_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cannot: Exception
) -> None:
    def refuse(*_: Any) -> None:
        raise cannot

    monkeypatch.setattr(mapped.mmap, "mmap", refuse)
    ledger = Ledger(str(tmp_path), "worker:a", mapped=True)
    write(ledger, 3)
    assert [event["n"] for event in lines(ledger.path)] == [0, 1, 2]
    assert b"\0" not in Path(ledger.path).read_bytes()


def test_when_its_space_is_used_up_lines_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SPACE", mapped.STEP)
    read_as_it_grows(tmp_path)


@pytest.mark.parametrize("space", [mapped.STEP, mapped.SPACE])
def test_a_file_that_has_got_its_number_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: int
) -> None:
    monkeypatch.setattr(mapped, "SPACE", space)
    ledger = Ledger(str(tmp_path), "worker:a", mapped=True)
    number = ledger._file
    assert number is not None
    os.close(number)
    with (tmp_path / "theirs").open("wb") as theirs:
        assert theirs.fileno() == number
        write(ledger, 2 * MANY)
    assert (tmp_path / "theirs").stat().st_size == 0
    assert [event["n"] for event in lines(ledger.path)] == list(range(2 * MANY))


def test_a_full_disk_shows_as_a_gap_and_ends_nobody(tmp_path: Path) -> None:
    def child() -> None:
        ledger = Ledger(str(tmp_path), "worker:a", mapped=True)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (mapped.STEP, hard))
        write(ledger, MANY)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        write(ledger, 1)

    assert in_child(child) == 0
    events, header = read_ledgers(tmp_path)
    *before, last = (event.n for event in events)
    assert before == list(range(len(before)))
    assert len(before) > 400
    assert last == MANY
    assert not header.broken


def test_what_is_not_all_there_yet_is_no_line(tmp_path: Path) -> None:
    """Another processor may see the end of a line before its middle."""
    ledger = Ledger(str(tmp_path), "worker:a", mapped=True)
    write(ledger, 1)
    whole = text(ledger.path)
    ledgers = tmp_path / "seen"
    ledgers.mkdir()
    path = ledgers / "worker-a.1.1.ndjson"
    path.write_bytes(whole + b"\0" * 1000)
    with Tail(ledgers) as tail, path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert len(tail.read()) == 1
        start, length = len(whole), len(whole)
        for piece in (slice(60, length), slice(0, 20), slice(20, 60)):
            assert not tail.read()
            memory[start + piece.start : start + piece.stop] = whole[piece]
            events, header = read_ledgers(ledgers)
            complete = piece.start == 20
            assert (len(events), bool(header.torn)) == (1 + complete, piece.start == 0)
        assert len(tail.read()) == 1
        assert not tail.broken


def test_a_forked_child_leaves_the_memory_to_its_parent(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), "worker:a", mapped=True)
    parents = ledger.path

    def child() -> None:
        ledger.open()
        write(ledger, MANY)

    assert in_child(child) == 0
    write(ledger, MANY)
    both = sorted(tmp_path.iterdir(), key=lambda path: str(path) != parents)
    assert len(both) == 2
    for path in both:
        assert [event["n"] for event in lines(path)] == list(range(MANY))
    assert {event["pid"] == os.getpid() for event in lines(both[0])} == {True}
