"""``celery beat`` in a run: ready, recorded, broken, stopped, judged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from live import Ran, Runs

INSIDE = Path(__file__).parent / "inside"
TICKER = "beats: {ticker: {schedule: {tick: {task: count, every: 500ms}}}}\nworkers: {a: {}}\n"


def lines(ran: Ran) -> Sequence[str]:
    """The ids of the executions, from the file outside Redis that the task writes to."""
    return [line.split()[0] for line in (ran.folder / "executions.txt").read_text().splitlines()]


def test_what_beat_publishes_bears_its_entrys_name_and_is_judged(runs: Runs) -> None:
    ran = runs(
        f"{TICKER}steps: [wait: {{at: succeeded, task: tick, nth: 2}}]\n"
        "expect: [executions: {task: tick, exactly: 1}]\n"
    )
    assert ran.verdict.value == "holds", ran
    ids = ran.history.ids("tick")
    assert len(ids) >= 2
    assert sorted(lines(ran)) == sorted(ids)
    assert {event.source for event in ran.history.of("publish", "invoke")} == {"beat:ticker"}
    due = ran.events("beat:ticker", "due")
    assert [event.attrs["count"] for event in due] == list(range(len(due)))
    assert all(event.attrs["ago"] >= 0.45 for event in due)


def test_beat_is_ready_at_its_first_tick_with_its_schedule_in_its_file(runs: Runs) -> None:
    ran = runs(f"{TICKER}steps: [wait: {{at: ticking, beat: ticker}}, send: add]\n")
    (ready,) = ran.events("beat:ticker", "ticking")
    assert ready.attrs["scheduler"] == "celery.beat.PersistentScheduler"
    assert ready.attrs["entries"]["tick"]["task"] == "count"
    assert [event.phase for event in ran.events("beat:ticker", "sync") if event.t < ready.t] == ["invoke", "ok"]
    assert list((ran.folder / "state").glob("ticker.schedule*"))


def test_beat_is_stopped_before_quiet_is_awaited(runs: Runs) -> None:
    ran = runs(f"{TICKER}steps: [send: add]\n")
    assert ran.verdict.value == "holds", ran
    (offline,) = ran.events("beat:ticker", "offline")
    assert offline.attrs["asked"]
    (quiet,) = ran.history.of("quiet", "ok")
    assert offline.t < quiet.t
    assert not [event for event in ran.history.of("publish") if event.t > quiet.t]


def test_beat_goes_on_while_the_run_observes(runs: Runs) -> None:
    ran = runs(f"{TICKER}steps: [send: add]\nobserve: 1500ms\n")
    (observed,) = ran.history.of("observed")
    done = max(event.t for event in ran.history.of("step", "ok"))
    published = [e.t for e in ran.history.of("publish", "ok", source="beat:ticker") if done < e.t < observed.t]
    assert published, ran


def test_a_killed_beat_starts_again_from_its_file(runs: Runs) -> None:
    # Two seconds, so that it is not stopped in the middle of the next publish, which Celery 5.7 does not take well.
    ticker = TICKER.replace("500ms", "2s")
    ran = runs(
        f"{ticker}steps:\n- wait: {{at: succeeded, task: tick}}\n- stop: {{beat: ticker}}\n- start: {{beat: ticker}}\n"
        "- kill: {beat: ticker}\n  name: death\n- wait: {at: offline, beat: ticker, nth: 2}\n- heal: death\n"
        "- restart: {beat: ticker, data: lose}\n"
    )
    assert ran.verdict.value == "holds", ran
    counts = [event.attrs["entries"]["tick"]["count"] for event in ran.events("beat:ticker", "ticking")]
    assert counts[0] == 0
    assert 1 <= counts[1] <= counts[2], "a stopped one saves what it has done, and a heal starts it from there"
    assert counts[3] == 0, "without its file it knows of nothing"


@pytest.mark.parametrize("data", ["cut", "empty"])
def test_the_schedules_file_is_damaged_before_a_start(runs: Runs, data: str) -> None:
    ran = runs(
        "beats: {ticker: {start: false, schedule: {tick: {task: count, every: 1h}}}}\nworkers: {a: {}}\n"
        "steps:\n- start: {beat: ticker}\n- stop: {beat: ticker}\n- send: add\n"
    )
    beat = ran.run.environment.beats["ticker"]
    before = {path: path.stat().st_size for path in beat.file.parent.glob("ticker.schedule*")}
    beat.treat(data)  # type: ignore[arg-type]
    assert any(before.values())
    largest = max(before, key=lambda path: before[path])
    for path, size in before.items():
        expected = size if path != largest else size // 2 if data == "cut" else 0
        assert path.stat().st_size == expected


def test_a_moment_of_a_beat_is_exact(runs: Runs) -> None:
    ran = runs(
        "beats: {ticker: {start: false, schedule: {tick: {task: count, every: 500ms}}}}\nworkers: {a: {}}\n"
        "steps:\n- kill: {beat: ticker}\n  when: {before: publish, beat: ticker}\n- start: {beat: ticker}\n"
        "- wait: {at: offline, beat: ticker}\n- send: add\n"
    )
    assert ran.verdict.value == "holds", ran
    assert [event.phase for event in ran.history.of("publish", source="beat:ticker")] == ["invoke"]
    assert not (ran.folder / "executions.txt").exists()


def test_a_paused_beat_publishes_nothing_and_can_be_stopped(runs: Runs) -> None:
    ran = runs(f"{TICKER}steps:\n- wait: {{at: succeeded, task: tick}}\n- pause: {{beat: ticker}}\n- send: add\n")
    assert ran.verdict.value == "holds", ran
    (frozen,) = [event for event in ran.history.of("fault", "ok") if event.attrs["verb"] == "pause"]
    (offline,) = ran.events("beat:ticker", "offline")
    assert not [event for event in ran.events("beat:ticker", "due") if frozen.t + 5e6 < event.t < offline.t]


@pytest.mark.parametrize(("scheduler", "critical"), [("Dies", 0), ("Breaks", 1)])
def test_a_beat_that_ends_unasked_violates(runs: Runs, scheduler: str, critical: int) -> None:
    path = os.pathsep.join([str(INSIDE), os.environ.get("PYTHONPATH", "")])
    ran = runs(
        f"beats: {{ticker: {{scheduler: 'dying:{scheduler}', env: {{PYTHONPATH: '{path}'}}}}}}\nworkers: {{a: {{}}}}\n"
        "steps:\n- wait: {at: offline, beat: ticker}\n- send: add\n"
    )
    alive = ran.of("workers_alive")
    assert (alive.outcome, alive.finding.seen) == ("violated", 1), ran
    assert "1 beat ended unasked: beat:ticker" in alive.why
    assert (ran.of("no_critical").outcome == "violated") == bool(critical), ran


def test_a_scheduler_that_leaves_out_entries_is_an_error(runs: Runs) -> None:
    path = os.pathsep.join([str(INSIDE), os.environ.get("PYTHONPATH", "")])
    ran = runs(
        f"beats: {{ticker: {{scheduler: 'dying:Forgets', env: {{PYTHONPATH: '{path}'}},"
        " schedule: {tick: {task: count, every: 1s}}}}\nworkers: {a: {}}\nsteps: [send: add]\n"
    )
    assert ran.verdict.value == "inconclusive"
    assert "not in the schedule: tick" in ran.of("exercised").why
