"""The reference page of the history's format, made from the vocabulary: ``docs/history.md``."""

from __future__ import annotations

from pathlib import Path

from pytest_celery_chaos.history.event import KINDS, POINTS

PAGE = Path(__file__).parents[2] / "docs" / "history.md"

_HEAD = """\
# The history

A run's folder holds what happened, and everything that is said about it can be derived from it again
(`celery-chaos check RUN`).

| file | what it is |
|---|---|
| `run.json` | the run's id, scenario, variant, and status: *running*, *finished* or *interrupted* |
| `plan.json` | the scenario, resolved: what was to be done, and what was expected |
| `history.ndjson` | every event of every process, one a line, in the order of time |
| `ledgers/` | while it runs, and after an interruption: the same events, one file for each process |
| `verdict.json` | every check's finding, with the events that prove it |
| `logs/` | what servers, workers and clients printed |

The first line of `history.ndjson` is its header: `history` (the format's version), `run`, and a pair of readings of the
monotonic and the wall clock (`monotonic`, `realtime`, in ns). Every other line is an event:

| key | meaning |
|---|---|
| `t` | CLOCK_MONOTONIC in ns: one clock for every process of the machine |
| `source` | whom it is about: `client:NAME`, `worker:NAME`, `broker:NAME`, `link:NAME`, `harness` |
| `kind` | see below |
| `phase` | of what begins and ends: `invoke`, then `ok`, `fail` or `unknown` (nobody can say whether it took effect) |
| `task` | the task's id |
| `by` | who wrote it down, where that is not the source |
| `pid`, `n` | the process, and the event's number in it, without gaps |
| `attrs` | what else is known |

Task arguments and results are not recorded. Passwords are taken out of addresses.

Events `wire_…` are those of a proxy in a link: one *unit* of commands, that is one command or a whole MULTI … EXEC, by
its role. Of their attributes, `conn` is the connection's number, `command` (of a transaction `commands`), `key` and
`db` what was sent, `rules` what was done to it, `error` and `nil` how the server answered; `name` and `tag` are the
message's.
"""


def reference_page() -> str:
    """The page's text."""
    lines = [_HEAD, "## Events", "", "| kind | when, and its attributes |", "|---|---|"]
    lines += [f"| `{kind}` | {about.replace('|', chr(92) + '|')} |" for kind, about in KINDS.items()]
    lines += ["", "## Points", "", "A process held *before* or *after* a point has written this event and waits:", ""]
    lines += ["| point | before | after |", "|---|---|---|"]
    for point, sides in POINTS.items():
        told = [f"`{kind}`{f' {phase}' if phase else ''}" for kind, phase in sides]
        lines.append(f"| `{point}` | {told[0]} | {told[1]} |")
    return "\n".join(lines) + "\n"
