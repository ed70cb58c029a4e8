"""``celery-chaos matrix``: every scenario on every server and pool, as one table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click

from pytest_celery_chaos.errors import StoredRunError

_INTERRUPTED = 130
#: From the best to the worst.
_CODES = (0, 6, 1, 2, _INTERRUPTED)


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--server", "servers", multiple=True, help="valkey-9.1, redis-6.2 …; once for each column.")
@click.option("--pool", "pools", multiple=True, type=click.Choice(["prefork", "solo", "threads"]), help="The same.")
@click.option("--client", "clients", multiple=True, type=click.Choice(["redis", "valkey"]), help="redis-py, valkey-py.")
@click.option("-k", "select", help="Only what matches, as pytest's -k.")
@click.option("-j", "jobs", type=click.IntRange(1), default=1, help="So many at a time.")
@click.option("--times", type=click.IntRange(1), default=1, help="Each so many times.")
@click.option("--provider", type=click.Choice(["local", "container"]), help="As processes, or in containers.")
@click.option("--from", "stored", is_flag=True, help="Run nothing: PATHS are stored runs, their folder, or a matrix.")
@click.option("--markdown", is_flag=True, help="Markdown instead of a table for the terminal.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead.")
def matrix(
    paths: Sequence[Path],
    servers: Sequence[str],
    pools: Sequence[str],
    clients: Sequence[str],
    select: str | None,
    jobs: int,
    times: int,
    provider: str | None,
    stored: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Run scenarios on each server, each pool and by each client library, so many times, and print one table: what
    came of each statement.

    Without PATHS those that come with this package. The runs are stored as those of `celery-chaos run`, but of equal
    ones only the first is kept; what all of them came to is stored beside them, for `--from`.
    """
    from pytest_celery_chaos.report import matrix as report

    code = 0
    if stored:
        rows = [row for path in paths or [Path(".celery-chaos/runs")] for row in _stored(path)]
    else:
        columns = product(servers or (None,), pools or (None,), clients or (None,))
        rows, code = _carried_out(paths, list(columns), select, jobs, times, provider)
    found = report.Matrix(rows)
    if as_json:
        click.echo(json.dumps(found.to_record(), indent=1))
    elif markdown:
        click.echo(report.markdown(found))
    elif rows:
        width = max(shutil.get_terminal_size((160, 24)).columns, 120)
        click.echo(report.text(found, width=width, colour=sys.stdout.isatty()))
    else:
        click.echo("no runs")
    sys.exit(code or _code_of(rows))


def _code_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """1 where something is not as recorded, 6 where the worst is inconclusive."""
    bad = {row["verdict"] for row in rows if not row["as_recorded"]}
    return (6 if bad == {"inconclusive"} else 1) if bad else 0


def _carried_out(
    paths: Sequence[Path],
    columns: Sequence[tuple[str | None, str | None, str | None]],
    select: str | None,
    jobs: int,
    times: int,
    provider: str | None,
) -> tuple[list[dict[str, Any]], int]:
    """A row for each run, and the worst exit code.

    :param columns: server, pool and client library of each.
    """
    from pytest_celery_chaos.cli import asked, can_run, own_ini, pytest_line
    from pytest_celery_chaos.scenario.discover import discover

    files = discover(paths)
    ini = None if paths else own_ini(Path.cwd())
    for server, pool in dict.fromkeys((server, pool) for server, pool, _ in columns):
        can_run(files, server=server, pool=pool, select=select, provider=provider)
    name = f"matrix-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
    rows: list[dict[str, Any]] = []
    codes = [0]
    for server, pool, client in columns:
        told = [server or "default server", pool or "default pool", *([f"{client}-py"] if client else [])]
        click.echo(f"celery-chaos: {', '.join(told)}", err=True)
        options = asked(
            server=server, pool=pool, select=select, jobs=jobs, times=times, provider=provider, client=client
        )
        line = [*pytest_line(), "-o", "chaos_retention=all", *options, *(["-c", str(ini)] if ini else [])]
        theirs, code = _run([*line, *map(str, files)])
        rows += _thinned([{**row, "asked_pool": pool or "", "asked_client": client or ""} for row in theirs])
        codes.append(code)
        if theirs:
            store = Path(theirs[0]["folder"]).parent / name
            store.write_text(json.dumps({"matrix": 1, "runs": rows}, indent=1))
            click.echo(f"celery-chaos: stored in {store}", err=True)
        if code == _INTERRUPTED:
            break
    return rows, max(codes, key=lambda code: _CODES.index(code) if code in _CODES else len(_CODES))


def _run(line: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """Run pytest to its end: its rows and its exit code. What it has to say goes to standard error."""
    reading, writing = os.pipe()
    # It ends with us, also when we are killed: as a worker of xdist does with its controller.
    environment = {**os.environ, "CELERY_CHAOS_WATCH": str(os.getpid())}
    process = subprocess.Popen(
        [*line, f"--chaos-answer={writing}"], pass_fds=[writing], stdout=sys.stderr, env=environment
    )
    os.close(writing)
    with _passed_on(process), os.fdopen(reading) as answer:
        said = answer.read()
        code = process.wait()
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return [], code or 2
    return found["runs"], code


class _passed_on:
    """A Ctrl-C reaches pytest by itself, which heals and ends; a TERM is passed on to it. We wait for it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        handlers: dict[int, Callable[..., None]] = {
            signal.SIGINT: lambda number, frame: None,
            signal.SIGTERM: lambda number, frame: self._process.send_signal(number),
        }
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove the folders of runs that came out as an earlier one of the same did: hundreds of them tell no more."""
    known: set[tuple[Any, ...]] = set()
    kept = []
    for row in rows:
        key = (row["file"], row["scenario"], row["variant"], row["server"], row["asked_pool"], row["asked_client"])
        if row["as_recorded"] and key in known:
            shutil.rmtree(row["folder"], ignore_errors=True)
            row = {**row, "folder": ""}
        elif row["as_recorded"]:
            known.add(key)
        kept.append(row)
    return kept


def _stored(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a stored matrix, of one run, or of every finished run in a folder of runs.

    :raises StoredRunError: it is none of these.
    """
    from pytest_celery_chaos.report.verdict import row

    if path.is_file():
        try:
            yield from json.loads(path.read_text())["runs"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoredRunError("not a stored matrix", where=str(path), hint="name what `matrix` stored") from error
    elif (path / "verdict.json").is_file():
        yield row(path)
    else:
        folders = sorted(each.parent for each in path.glob("*/verdict.json"))
        if not folders:
            hint = "name runs, the folder that they are in, or a stored matrix"
            raise StoredRunError("no finished run here", where=str(path), hint=hint)
        for folder in folders:
            yield row(folder)
