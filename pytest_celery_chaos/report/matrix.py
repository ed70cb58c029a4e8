"""Many runs as one table: a row for each statement and scenario, a column for each server and pool."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pytest_celery_chaos.report.terminal import COLOURS, counts, short_name

#: A run as :func:`pytest_celery_chaos.report.verdict.row` tells it.
Row = Mapping[str, Any]
#: How many of the slowest are told.
SLOWEST = 10
_ORDER = ("holds", "hazard", "violated", "inconclusive")
_PARTS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Proven:
    """A statement that proved false: a violation that its scenario records, and that showed.

    :param ref: by which name it is known; *why*: its cause, in a sentence.
    :param seen: each check that it showed in, and the figures.
    :param where: the columns that it showed in; *scenarios*: and the scenarios.
    :param folder: of one run that shows it.
    """

    ref: str
    why: str
    seen: Sequence[str]
    where: Sequence[str]
    scenarios: Sequence[str]
    folder: str


@dataclass(frozen=True)
class Matrix:
    """The runs of a matrix.

    :param rows: one for each run.
    """

    rows: Sequence[Row]

    @cached_property
    def columns(self) -> Sequence[str]:
        """Server and pool of each column, in the order of the runs."""
        return list(dict.fromkeys(map(column, self.rows)))

    @cached_property
    def lines(self) -> Sequence[tuple[str, str]]:
        """Statement and scenario of each line, in the order of the statements."""
        found = {(ref, short_name(row)): None for row in self.rows for ref in row.get("refs") or ("",)}
        return sorted(found, key=lambda line: (_natural(line[0]), line[1]))

    def cell(self, scenario: str, column: str) -> Mapping[str, int]:
        """How often which verdict came of one scenario on one server and pool."""
        return self._cells.get((scenario, column), {})

    @cached_property
    def _cells(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        found: dict[tuple[str, str], Counter[str]] = {}
        for row in self.rows:
            found.setdefault((short_name(row), column(row)), Counter())[_verdict(row)] += 1
        return found

    @cached_property
    def counts(self) -> str:
        """One line: how many were as recorded, and what the others were."""
        return counts(self.rows)

    @cached_property
    def slowest(self) -> Sequence[tuple[str, str, float]]:
        """Scenario, column and seconds of those whose slowest run was the slowest."""
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            key = short_name(row), column(row)
            found[key] = max(found.get(key, 0.0), row["seconds"])
        return [(*key, found[key]) for key in sorted(found, key=lambda key: -found[key])[:SLOWEST]]

    @cached_property
    def proven_false(self) -> Sequence[Proven]:
        """The statements that the runs have shown to be false, as their scenarios record them."""
        shown: dict[tuple[str, str], list[tuple[Row, Mapping[str, Any]]]] = {}
        for row in self.rows:
            for hazard in row.get("hazards") or ():
                shown.setdefault((hazard["ref"], hazard["why"]), []).append((row, hazard))
        found = []
        for ref, why in sorted(shown, key=lambda key: (_natural(key[0]), key[1])):
            theirs = shown[ref, why]
            found.append(
                Proven(
                    ref,
                    why,
                    seen=_figures(hazard for _, hazard in theirs),
                    where=_unique(column(row) for row, _ in theirs),
                    scenarios=_unique(short_name(row) for row, _ in theirs),
                    folder=next((str(row["folder"]) for row, _ in theirs if row["folder"]), ""),
                )
            )
        return found

    def to_record(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "columns": list(self.columns),
            "lines": [
                {
                    "ref": ref,
                    "scenario": scenario,
                    "cells": {one: dict(self.cell(scenario, one)) for one in self.columns},
                }
                for ref, scenario in self.lines
            ],
            "counts": self.counts,
            "slowest": [dict(zip(("scenario", "column", "seconds"), each, strict=True)) for each in self.slowest],
            "proven_false": [vars(each) for each in self.proven_false],
            "runs": list(self.rows),
        }


def column(row: Row) -> str:
    """``valkey 9.1.2 prefork``: what was asked for, where the run knows; else what it had. The client library's name
    follows, where that was asked for."""
    library = row.get("asked_client")
    return f"{row['server']} {row.get('asked_pool') or row['pool'] or '-'}" + (f" {library}-py" if library else "")


def _verdict(row: Row) -> str:
    return str(row["verdict"])


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _figures(hazards: Iterable[Mapping[str, Any]]) -> list[str]:
    """``lost 1``, ``executions 3 to 5``."""
    figures: dict[str, list[float]] = {}
    for hazard in hazards:
        figures.setdefault(hazard["check"], []).append(hazard["seen"] or 0)
    return [
        f"{check} {min(seen):g}" + (f" to {max(seen):g}" if min(seen) != max(seen) else "")
        for check, seen in figures.items()
    ]


def _natural(ref: str) -> tuple[Any, ...]:
    """Statements (A1, B10) first, then reported failures; each in the order of their numbers."""
    parts = tuple(int(part) if part.isdecimal() else part for part in _PARTS.split(ref) if part)
    return (not ref, len(ref.rstrip("0123456789")) > 1, *((isinstance(part, str), part) for part in parts))


def told(cell: Mapping[str, int]) -> str:
    """``10 holds``, ``9 holds, 1 violated``; ``-`` where it does not run there."""
    return ", ".join(f"{cell[verdict]} {verdict}" for verdict in _ORDER if verdict in cell) or "-"


def text(matrix: Matrix, *, width: int, colour: bool) -> str:
    """For a person at a terminal."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("ref", "scenario", *(each.replace(" ", "\n", 1) for each in matrix.columns)):
        grid.add_column(title, header_style="bold", no_wrap=title == "ref", overflow="fold")
    before = None
    for ref, scenario in matrix.lines:
        cells = [matrix.cell(scenario, each) for each in matrix.columns]
        grid.add_row(
            ref if ref != before else "", Text(scenario), *(Text(told(each), style=_style(each)) for each in cells)
        )
        before = ref
    target = StringIO()
    console = Console(file=target, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(grid)
    lines = [target.getvalue().rstrip("\n"), "", matrix.counts]
    lines += ["", "the slowest:", *(f"  {seconds:6.1f} s  {name} on {on}" for name, on, seconds in matrix.slowest)]
    if matrix.proven_false:
        lines += ["", "proved false:"]
    for each in matrix.proven_false:
        lines += [f"  {each.ref}: {each.why} ({', '.join(each.seen)})"]
        lines += [f"      on {'; '.join(each.where)}", f"      {', '.join(each.scenarios)}: {each.folder}"]
    return "\n".join(lines)


def _style(cell: Mapping[str, int]) -> str:
    return COLOURS[next(verdict for verdict in reversed(_ORDER) if verdict in cell)] if cell else "dim"


def markdown(matrix: Matrix) -> str:
    """For a page."""
    lines = [*_table(["ref", "scenario", *matrix.columns], _lines(matrix)), "", matrix.counts, ""]
    lines += ["## The slowest", ""]
    lines += _table(["scenario", "on", "s"], ([name, on, f"{seconds:.1f}"] for name, on, seconds in matrix.slowest))
    lines += ["", "## Proved false", ""]
    rows = (
        [each.ref, each.why, ", ".join(each.seen), "; ".join(each.where), ", ".join(each.scenarios), each.folder]
        for each in matrix.proven_false
    )
    return "\n".join([*lines, *_table(["ref", "found", "seen", "on", "scenario", "a run that shows it"], rows)]) + "\n"


def _lines(matrix: Matrix) -> Iterator[list[str]]:
    for ref, scenario in matrix.lines:
        yield [ref, scenario, *(told(matrix.cell(scenario, each)) for each in matrix.columns)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
