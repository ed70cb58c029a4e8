"""A history: loaded whole, from pieces, or not at all; and what it knows of its own defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.errors import StoredRunError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import Header, History, Ledger
from pytest_celery_chaos.history.store import load_run, read_ledgers, write_history


def hello(source: str = "worker:a", pid: int = 7, t: int = 10, **more: Any) -> Event:
    return Event(t, source, "hello", pid=pid, attrs={"monotonic": t, "realtime": 1000 + t}, **more)


def event(t: int, kind: str = "started", n: int = 1, source: str = "worker:a", pid: int = 7, **more: Any) -> Event:
    return Event(t, source, kind, n=n, pid=pid, **more)


def store(folder: Path, name: str, *events: Event, tail: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(e.to_line() + "\n" for e in events) + tail)


@pytest.fixture
def ledgers(tmp_path: Path) -> Path:
    """The ledgers of a run of two processes that wrote at the same time."""
    folder = tmp_path / "ledgers"
    store(folder, "worker-a.7.1.ndjson", hello(), event(20), event(40, n=2))
    store(
        folder,
        "worker-b.8.1.ndjson",
        hello("worker:b", 8, 15),
        event(20, source="worker:b", pid=8),
        event(30, n=2, source="worker:b", pid=8),
    )
    return folder


def test_events_are_merged_by_time_then_process_then_number(ledgers: Path) -> None:
    history = History.load(ledgers.parent)
    assert [(e.t, e.pid, e.n) for e in history.events] == [
        (10, 7, 0),
        (15, 8, 0),
        (20, 7, 1),
        (20, 8, 1),
        (30, 8, 2),
        (40, 7, 2),
    ]
    assert history.defects() == []


def test_a_merged_history_is_the_same_as_its_ledgers(ledgers: Path) -> None:
    before = History.load(ledgers.parent)
    written = write_history(ledgers.parent, Header("r1", 10, 1010))
    assert not ledgers.exists()
    after = History.load(ledgers.parent)
    assert list(before.events) == list(written.events) == list(after.events)
    assert (after.header.run, after.header.monotonic, after.header.realtime) == ("r1", 10, 1010)
    first = json.loads((ledgers.parent / "history.ndjson").read_text().splitlines()[0])
    assert first == {"history": 1, "run": "r1", "monotonic": 10, "realtime": 1010}
    assert list(History.load(ledgers.parent / "history.ndjson").events) == list(after.events)


def test_a_header_is_made_from_the_first_hello(ledgers: Path) -> None:
    header = History.load(ledgers.parent).header
    assert (header.monotonic, header.realtime) == (10, 1010)


def test_times_count_from_the_start(ledgers: Path) -> None:
    history = History.load(ledgers.parent)
    assert history.seconds(10 + 1_500_000_000) == 1.5
    assert history.end == 40


def test_a_torn_tail_is_tolerated_where_the_process_was_killed(ledgers: Path) -> None:
    with (ledgers / "worker-a.7.1.ndjson").open("a") as file:
        file.write('{"t":50,"source":"wor')
    history = History.load(ledgers.parent)
    assert len(history) == 6
    assert history.header.torn == ["worker-a.7.1"]
    assert any("torn" in defect for defect in history.defects())
    harness = hello("harness", 1, 5)
    for kind, attrs in (("offline", {"signal": "SIGKILL"}), ("child_down", {"child": 7, "exitcode": -9})):
        gone = Event(60, "worker:a", kind, pid=1, n=1, by="harness", attrs=attrs)
        assert History([*history.events, harness, gone], history.header).defects() == []


def test_a_torn_tail_is_still_known_when_the_history_is_stored(ledgers: Path) -> None:
    with (ledgers / "worker-a.7.1.ndjson").open("a") as file:
        file.write('{"t":50,')
    write_history(ledgers.parent)
    assert any("torn" in defect for defect in History.load(ledgers.parent).defects())


def test_a_broken_line_elsewhere_is_a_defect(ledgers: Path) -> None:
    lines = (ledgers / "worker-a.7.1.ndjson").read_text().splitlines()
    (ledgers / "worker-a.7.1.ndjson").write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    history = History.load(ledgers.parent)
    assert list(history.header.broken) == ["worker-a.7.1.ndjson:2"]
    assert any("is not an event" in defect for defect in history.defects())


def test_a_stored_history_that_was_cut_off_has_a_defect(ledgers: Path) -> None:
    write_history(ledgers.parent)
    path = ledgers.parent / "history.ndjson"
    path.write_bytes(path.read_bytes()[:-5])
    assert History.load(path).defects()


@pytest.mark.parametrize(
    ("events", "defect"),
    [
        ([event(20)], "never said hello"),
        ([hello(), event(20), event(30, n=3)], "event 2 is missing"),
        ([hello(), event(20), event(20)], "is there twice"),
        ([hello(), event(20), event(25)], "event 1 (started) is there twice"),
        ([hello(), event(20), event(21, n=2), hello(t=50), event(60), event(61, n=3), event(62, n=4)], "is missing"),
        ([hello(), event(20), hello()], "its hello is there twice"),
        ([hello(t=50), event(20), event(60, n=2)], "came before its hello"),
        ([hello(), event(9_000_000_000), event(20, n=2)], "older than one before it"),
        ([hello(), event(20, by="harness", source="worker:b", pid=1)], "harness (pid 1) never said hello"),
    ],
)
def test_what_is_missing_doubled_or_out_of_place_is_found(events: list[Event], defect: str) -> None:
    assert any(defect in found for found in History(events).defects())


def test_a_process_begun_anew_under_its_old_pid_is_no_defect() -> None:
    lives = [hello(), event(20), event(21, n=2), hello(t=50), event(60), event(61, n=2), event(62, n=3)]
    assert History(lives).defects() == []


def test_tasks_are_found_by_label_by_name_and_by_id() -> None:
    label = event(11, "label", source="harness", attrs={"label": "job", "prefix": "ab-", "name": "add", "times": 2})
    publishes = [
        event(12 + i, "publish", phase="invoke", task=task, attrs={"name": name})
        for i, (task, name) in enumerate([("ab-1", "add"), ("ab-2", "add"), ("cd-1", "add"), ("ef-1", "job")])
    ]
    history = History([label, *publishes])
    assert history.ids("job") == ("ab-1", "ab-2")
    assert history.ids("add") == ("ab-1", "ab-2", "cd-1")
    assert history.ids("cd-1") == ("cd-1",)
    assert history.ids("nothing") == ()
    assert history.ids(None) == ("ab-1", "ab-2", "cd-1", "ef-1")
    assert [e.task for e in history.of("publish", "invoke", task="job")] == ["ab-1", "ab-2"]
    assert history.of("publish", "ok") == []
    assert history.of("publish", source="worker:b") == []


def test_a_run_is_read_with_its_plan(ledgers: Path) -> None:
    (ledgers.parent / "run.json").write_text('{"id": "r1", "status": "interrupted"}')
    (ledgers.parent / "plan.json").write_text('{"scenario": "s"}')
    run = load_run(ledgers.parent)
    assert (run.info["status"], run.plan["scenario"], len(run.history)) == ("interrupted", "s", 6)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("history.ndjson", "", "not the header"),
        ("history.ndjson", '{"t":1}\n', "not the header"),
        ("history.ndjson", '{"history":99}\n', "version 99"),
        ("history.ndjson", '{"history":1,"monotonic":"soon"}\n', "damaged"),
        ("run.json", "{", "damaged"),
        ("plan.json", "[]", "not an object"),
        ("plan.json", None, "not the folder of a run"),
    ],
)
def test_what_cannot_be_read_is_said_with_place_and_next_step(
    ledgers: Path, name: str, text: str | None, complaint: str
) -> None:
    folder = ledgers.parent
    for each in ("run.json", "plan.json"):
        (folder / each).write_text("{}")
    (folder / name).unlink(missing_ok=True)
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(StoredRunError, match=complaint) as caught:
        load_run(folder)
    assert caught.value.where is not None
    assert name in caught.value.where
    assert caught.value.hint


def test_a_folder_without_any_events_is_not_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no-such-folder"):
        with pytest.raises(StoredRunError):
            History.load(path)


def test_a_ledger_written_here_is_read_back_exactly(tmp_path: Path) -> None:
    with Ledger(tmp_path, "harness") as ledger:
        written = [ledger.emit("step", "ok", "t1", index=i, text='ä\u2028\n"') for i in range(50)]
    events, _ = read_ledgers(tmp_path)
    assert events[1:] == written
