"""What a `celery beat` tells of itself, in every version of Celery."""

from __future__ import annotations

import json

import pytest

from .lab import EACH_VERSION, Lab

SCHEDULE = {"tick": {"task": "count", "schedule": 0.5}, "hourly": {"task": "add", "schedule": 3600.0}}
COMMAND = ["-m", "celery", "-A", "celery_chaos_tasks:app", "beat", "-l", "INFO", "--schedule", "schedule"]
LABELS = {"CELERY_CHAOS_LABELS": json.dumps({"tick": "abcdef12-"})}


@pytest.mark.parametrize("version", EACH_VERSION)
def test_first_tick_due_entries_and_their_publishes(lab: Lab, version: str) -> None:
    beat = lab.python(version, COMMAND, source="beat:b", settings={"beat_schedule": SCHEDULE}, env=LABELS)
    beat.until("publish", "ok", n=2)
    beat.kill()
    (ticking,) = beat.of("ticking")
    assert set(ticking.attrs["entries"]) == {"tick", "hourly"}
    tick = ticking.attrs["entries"]["tick"]
    assert (tick["task"], tick["every"], tick["count"]) == ("count", 0.5, 0)
    assert ticking.attrs["overlay"]["beat_schedule"] is True
    assert ticking.attrs["scheduler"] == "celery.beat.PersistentScheduler"
    due = beat.of("due")
    assert [(event.attrs["entry"], event.attrs["count"]) for event in due[:2]] == [("tick", 0), ("tick", 1)]
    publishes = beat.of("publish", "invoke")
    assert len(due) - len(publishes) in (0, 1), "killed while it publishes, it has not got to what was due"
    assert all(str(event.task).startswith("abcdef12-") and len(str(event.task)) == 36 for event in publishes)
    assert len({event.task for event in publishes}) == len(publishes)
    assert not beat.of("hook_missing")
    assert not beat.of("hook_failed")
    assert not beat.of("send"), "those are for clients"


@pytest.mark.parametrize("version", EACH_VERSION)
def test_the_writes_of_the_file(lab: Lab, version: str) -> None:
    """With nothing to publish, in the middle of which Celery 5.7 does not end well."""
    idle = {"hourly": SCHEDULE["hourly"]}
    beat = lab.python(version, COMMAND, source="beat:b", settings={"beat_schedule": idle})
    beat.until("ticking")
    begun = len(beat.of("sync", "ok"))
    assert begun >= 1, "when it starts"
    assert beat.stop().code == 0
    phases = [event.phase for event in beat.of("sync")]
    assert phases == ["invoke", "ok"] * (len(phases) // 2)
    assert len(phases) > 2 * begun, "when it ends"
