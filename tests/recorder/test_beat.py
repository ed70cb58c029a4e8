"""What a `celery beat` tells of itself, in every version of Celery."""

from __future__ import annotations

import json

import pytest

from .lab import VERSIONS, Lab

SCHEDULE = {"tick": {"task": "count", "schedule": 0.5}, "hourly": {"task": "add", "schedule": 3600.0}}
LABELS = {"CELERY_CHAOS_LABELS": json.dumps({"tick": "abcdef12-"})}


@pytest.mark.parametrize("version", VERSIONS)
def test_first_tick_due_entries_their_publishes_and_the_writes_of_the_file(lab: Lab, version: str) -> None:
    command = ["-m", "celery", "-A", "celery_chaos_tasks:app", "beat", "-l", "INFO", "--schedule", "schedule"]
    beat = lab.python(version, command, source="beat:b", settings={"beat_schedule": SCHEDULE}, env=LABELS)
    beat.until("publish", "ok", n=2)
    assert beat.stop().code == 0
    (ticking,) = beat.of("ticking")
    assert set(ticking.attrs["entries"]) == {"tick", "hourly"}
    tick = ticking.attrs["entries"]["tick"]
    assert (tick["task"], tick["every"], tick["count"]) == ("count", 0.5, 0)
    assert ticking.attrs["overlay"]["beat_schedule"] is True
    assert ticking.attrs["scheduler"] == "celery.beat.PersistentScheduler"
    due = beat.of("due")
    assert [(event.attrs["entry"], event.attrs["count"]) for event in due[:2]] == [("tick", 0), ("tick", 1)]
    publishes = beat.of("publish", "invoke")
    assert len(publishes) == len(due)
    assert all(str(event.task).startswith("abcdef12-") and len(str(event.task)) == 36 for event in publishes)
    assert len({event.task for event in publishes}) == len(publishes)
    syncs = [event.phase for event in beat.of("sync")]
    assert syncs == ["invoke", "ok"] * (len(syncs) // 2)
    assert len(syncs) >= 4, "when it starts, and when it ends"
    assert not beat.of("hook_missing")
    assert not beat.of("hook_failed")
    assert not beat.of("send"), "those are for clients"
