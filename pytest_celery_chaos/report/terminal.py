"""A run, or many, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

COLOURS = {"holds": "green", "hazard": "yellow", "violated": "red", "inconclusive": "magenta"}


def table(rows: Iterable[Mapping[str, Any]], *, width: int, colour: bool) -> str:
    """A row for each run: what it was, how it was judged, what was expected, where, how long, and why.

    :param rows: records with scenario, variant, verdict, expected, server, seconds, why.
    :param width: columns of the terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, options in _COLUMNS.items():
        grid.add_column(title, header_style="bold", **options)
    for row in rows:
        as_recorded = row["as_recorded"]
        verdict = Text(row["verdict"], style=COLOURS.get(row["verdict"], "") if as_recorded else "bold red")
        grid.add_row(
            Text(short_name(row)), verdict, row["expected"], row["server"], f"{row['seconds']:.1f}", Text(row["why"])
        )
    target = StringIO()
    Console(file=target, width=width, force_terminal=colour, no_color=not colour, highlight=False).print(grid)
    return target.getvalue().rstrip("\n")


def short_name(row: Mapping[str, Any]) -> str:
    """``delivery/killed-after-pop [variant]``: a file by its folder and name, a test by its own."""
    file = row.get("file")
    name = "/".join(file.removesuffix(".chaos.yaml").split("/")[-2:]) if file else row["scenario"]
    return f"{name} [{row['variant']}]" if row["variant"] else str(name)


_COLUMNS: Mapping[str, dict[str, Any]] = {
    "scenario": {"no_wrap": True},
    "verdict": {"no_wrap": True},
    "expected": {"no_wrap": True},
    "server": {"no_wrap": True},
    "seconds": {"justify": "right", "no_wrap": True},
    "why": {"ratio": 1},
}


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line: how many were as recorded, and what the others were."""
    good = sum(bool(row["as_recorded"]) for row in rows)
    hazards = sum(row["as_recorded"] and row["expected"] == "hazard" for row in rows)
    bad: dict[str, int] = {}
    for row in rows:
        if not row["as_recorded"]:
            bad[row["verdict"]] = bad.get(row["verdict"], 0) + 1
    parts = [f"{good} as recorded ({hazards} known hazards)", *(f"{n} {verdict}" for verdict, n in sorted(bad.items()))]
    return f"{len(rows)} runs: " + ", ".join(parts)
