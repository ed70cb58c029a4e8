"""A verdict as text, and as the row of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.store import load_run
from pytest_celery_chaos.history.verdict import Judgement, Verdict


def row(folder: Path, node: str = "", kept: Sequence[str] = ()) -> dict[str, Any]:
    """What a table says of one stored run, as JSON-ready data."""
    run = load_run(folder)
    verdict = json.loads((folder / "verdict.json").read_text())
    events = run.history.events
    server = next((f"{e.attrs['server']} {e.attrs['version']}" for e in events if e.kind == "online"), "-")
    hazards = any(judgement["hazard"] for judgement in verdict["judgements"])
    return {
        "scenario": verdict["scenario"],
        "file": run.plan.get("file"),
        "variant": verdict["variant"],
        "verdict": verdict["value"],
        "as_recorded": verdict["as_recorded"],
        "expected": "hazard" if hazards else "holds",
        "server": server,
        "pool": ",".join(sorted({str(e.attrs.get("pool")) for e in events if e.kind == "ready"})),
        "seconds": round((events[-1].t - events[0].t) / 1e9, 2) if events else 0.0,
        "why": _short(verdict),
        "refs": list(run.plan.get("refs") or ()),
        "hazards": [_hazard(each) for each in verdict["judgements"] if each["hazard"] and _shows(each)],
        "node": node,
        "folder": str(folder),
        "kept": list(kept),
    }


def _shows(judgement: Mapping[str, Any]) -> bool:
    return bool(judgement["outcome"] == "as_recorded")


def _hazard(judgement: Mapping[str, Any]) -> dict[str, Any]:
    known = judgement["hazard"]
    return {"check": judgement["check"], "ref": known["ref"], "why": known["why"], "seen": judgement["finding"]["seen"]}


def _short(verdict: Mapping[str, Any]) -> str:
    """Why, in one line: a known hazard by what is recorded of it and the figure that was seen."""
    if verdict["value"] == "hazard":
        known = [judgement for judgement in verdict["judgements"] if judgement["hazard"]]
        seen = ", ".join(f"{each['check']} {each['finding']['seen']:g}" for each in known)
        return f"{known[0]['hazard']['ref']}: {known[0]['hazard']['why']} ({seen})"
    return str(verdict["why"])


def explain(verdict: Verdict, folder: Path) -> str:
    """Why a run is not as recorded: each judgement that is not, with the events that prove it."""
    zero = load_run(folder).history.header.monotonic
    lines = [f"{verdict.scenario}{f' [{verdict.variant}]' if verdict.variant else ''}: {verdict.value}"]
    lines += [f"  the record is damaged: {defect}" for defect in verdict.defects]
    for judgement in verdict.judgements:
        if judgement.outcome != "as_recorded":
            lines += _judgement(judgement, zero)
    lines.append(f"  the run: {folder}")
    return "\n".join(lines)


def _judgement(judgement: Judgement, zero: int) -> list[str]:
    args = ", ".join(f"{name}: {value}" for name, value in judgement.args.items() if value is not None)
    place = f" ({judgement.place})" if judgement.place else ""
    lines = [f"  {judgement.check}{f' {{{args}}}' if args else ''}{place}: {judgement.outcome}", f"    {judgement.why}"]
    return lines + [f"      {event_line(event, zero)}" for event in judgement.finding.evidence]


def event_line(event: Event, zero: int) -> str:
    """One event for a person: time since the run's start, whom, what, which task."""
    what = f"{event.kind} {event.phase}" if event.phase else event.kind
    more = " ".join(f"{key}={value}" for key, value in event.attrs.items() if key in _TOLD and value is not None)
    return f"{(event.t - zero) / 1e9:8.3f} s  {event.source:<14} {what:<16} {event.task or '':<36} {more}".rstrip()


_TOLD = ("name", "tag", "redelivered", "reason", "code", "signal", "verb", "error", "how", "state", "label")
