"""``celery-chaos matrix``: one table of many runs, from running them and from what is stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from started import COMMAND, Started, starter

from pytest_celery_chaos.report.matrix import Matrix, markdown, text, told
from pytest_celery_chaos.system import wait

from .conftest import Run, runs

HAZARD = {"check": "lost", "ref": "KF-32", "why": "two commands", "seen": 1}


def row(name: str, verdict: str = "holds", *, server: str = "valkey 9.1.2", **more: Any) -> dict[str, Any]:
    """A run, as a report tells it."""
    known = verdict == "hazard"
    return {
        "scenario": name,
        "file": f"scenarios/{name}.chaos.yaml",
        "variant": None,
        "verdict": verdict,
        "as_recorded": verdict in ("holds", "hazard"),
        "expected": "hazard" if known else "holds",
        "server": server,
        "pool": "prefork",
        "seconds": 1.0,
        "refs": ["B1"],
        "hazards": [HAZARD] if known else [],
        "folder": f"runs/{name}-{verdict}",
        **more,
    }


ROWS = [
    *(row("delivery/popped", "hazard", refs=["KF-32", "B1"], seconds=number) for number in (2.0, 3.0)),
    row("delivery/late", refs=["B10", "B2"]),
    row("delivery/late", "violated", refs=["B10", "B2"], server="redis 7.0.15"),
    row("delivery/late", refs=["B10", "B2"], server="redis 7.0.15", seconds=9.0),
    row("plain", refs=[]),
]


def test_a_line_for_each_statement_and_scenario_in_their_order() -> None:
    refs = [ref for ref, _ in Matrix(ROWS).lines]
    assert refs == ["B1", "B2", "B10", "KF-32", ""]


def test_a_column_for_each_server_and_pool() -> None:
    rows = [*ROWS, row("plain", pool="prefork,solo", asked_pool="solo")]
    assert Matrix(rows).columns == ["valkey 9.1.2 prefork", "redis 7.0.15 prefork", "valkey 9.1.2 solo"]


def test_a_cell_counts_the_verdicts() -> None:
    matrix = Matrix(ROWS)
    assert told(matrix.cell("delivery/popped", "valkey 9.1.2 prefork")) == "2 hazard"
    assert told(matrix.cell("delivery/late", "redis 7.0.15 prefork")) == "1 holds, 1 violated"
    assert told(matrix.cell("delivery/popped", "redis 7.0.15 prefork")) == "-"


def test_the_slowest_and_what_proved_false() -> None:
    matrix = Matrix(ROWS)
    assert matrix.slowest[0] == ("delivery/late", "redis 7.0.15 prefork", 9.0)
    (proven,) = matrix.proven_false
    assert (proven.ref, proven.why, proven.seen) == ("KF-32", "two commands", ["lost 1"])
    assert proven.folder == "runs/delivery/popped-hazard"
    assert matrix.counts == "6 runs: 5 as recorded (2 known hazards), 1 violated"


@pytest.mark.parametrize("shown", [lambda m: text(m, width=160, colour=False), markdown])
def test_everything_is_told(shown: Callable[[Matrix], str]) -> None:
    page = shown(Matrix(ROWS))
    for part in ("KF-32", "delivery/popped", "2 hazard", "1 holds, 1 violated", "6 runs", "two commands", "9.0"):
        assert part in page


def test_markdown_has_whole_tables() -> None:
    lines = markdown(Matrix([*ROWS, row("a|b")])).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert (
        len(
            {
                line.replace("\\|", "").count("|")
                for line in tables[: tables.index("| B10 | delivery/late | 1 holds | 1 holds, 1 violated |")]
            }
        )
        == 1
    )


@pytest.fixture
def refs(write: Callable[..., None], folder: Path) -> None:
    write("holds", "hazard")
    for path in folder.glob("*.chaos.yaml"):
        path.write_text(path.read_text().replace("profile:", f"refs: [{path.name[:2]}]\nprofile:"))


@pytest.mark.usefixtures("refs")
def test_each_combination_is_run_and_of_equal_runs_one_is_kept(chaos: Run, folder: Path) -> None:
    done = chaos("matrix", ".", "--server", "valkey", "--pool", "solo", "--times", "2", "-j", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (column,) = found["columns"]
    assert column.startswith("valkey 9")
    assert column.endswith(" solo")
    cells = {line["scenario"].rpartition("/")[2]: line["cells"][column] for line in found["lines"]}
    assert cells == {"holds": {"holds": 2}, "hazard": {"hazard": 2}}
    assert found["counts"] == "4 runs: 4 as recorded (2 known hazards)"
    assert len(runs(folder)) == 2
    (proven,) = found["proven_false"]
    assert Path(proven["folder"]) in runs(folder)
    stored = next(folder.glob(".celery-chaos/runs/matrix-*.json"))
    again = chaos("matrix", "--from", str(stored), "--markdown")
    assert again.returncode == 0
    assert "| 2 hazard |" in again.stdout
    assert "2 runs: 2 as recorded" in chaos("matrix", "--from", ".celery-chaos/runs").stdout
    assert "1 runs" in chaos("matrix", "--from", proven["folder"]).stdout


def test_what_is_not_as_recorded_is_told_and_kept(write: Callable[..., None], chaos: Run, folder: Path) -> None:
    write("holds", "violated", "unreached")
    done = chaos("matrix", ".", "--times", "2", "-j", "2")
    assert done.returncode == 1
    assert "2 violated" in done.stdout
    assert "2 inconclusive" in done.stdout
    assert len(runs(folder)) == 5


@pytest.mark.parametrize(
    "argv", [("matrix", "missing"), ("matrix", "--server", "nothing-1"), ("matrix", "--from", "."), ("matrix", "bad")]
)
def test_bad_input(argv: tuple[str, ...], chaos: Run, folder: Path) -> None:
    (folder / "bad").write_text("scenario: 1\n")
    done = chaos(*argv)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (folder / ".celery-chaos").exists()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Started]]:
    with starter(folder) as start:
        yield start


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_nothing_is_left_of_a_matrix_that_is_ended(
    sent: int, code: int, write: Callable[..., None], start: Callable[..., Started], folder: Path
) -> None:
    write("holds")
    path = folder / "holds.chaos.yaml"
    path.write_text(path.read_text().replace("task: add, args: [1, 2]", "task: sleep, args: [60]"))
    started = start(*COMMAND, "matrix", ".", "-j", "2", "--times", "2")
    wait.until(
        lambda: any(
            '"started"' in ledger.read_text() for ledger in folder.glob(".celery-chaos/runs/*/ledgers/worker*")
        ),
        what="a task to run",
        timeout=40,
        last=started.output,
    )
    started.remember()
    started.process.send_signal(sent)
    assert started.process.wait(30) == code, started.output()
    started.leaves_nothing(10)
