"""``celery-chaos soak``: load, and faults that strike at moments drawn from a seed, written down as a scenario."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import click

from pytest_celery_chaos.scenario.soak import DEFAULT, NETWORK, STRIKES, Soak
from pytest_celery_chaos.scenario.soak import soak as written

FOLDER = Path(".celery-chaos/soaks")


@click.command()
@click.option("--seed", type=int, help="Draw from this; without it from a new one, which is printed.")
@click.option("--tasks", type=click.IntRange(1), default=Soak.tasks, show_default=True, help="Messages, over all.")
@click.option("--clients", type=click.IntRange(1), default=Soak.clients, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=Soak.workers, show_default=True, help="Of mixed pools.")
@click.option("--faults", type=click.IntRange(0), default=Soak.faults, show_default=True)
@click.option("--duration", type=float, default=Soak.duration, show_default=True, help="Seconds of load and faults.")
@click.option(
    "--fault",
    "strikes",
    multiple=True,
    type=click.Choice(list(STRIKES)),
    help=f"Choose from these, given once each; without it from {', '.join(DEFAULT)}.",
)
@click.option(
    "--network", is_flag=True, help=f"Also {', '.join(NETWORK)}: workers reach their servers through a proxy."
)
@click.option("--server", help="Run on this server: valkey-9.1, redis-6.2, redis …")
@click.option("--write", "only_write", is_flag=True, help="Write the scenario and print its path; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def soak(
    seed: int | None,
    tasks: int,
    clients: int,
    workers: int,
    faults: int,
    duration: float,
    strikes: Sequence[str],
    network: bool,
    server: str | None,
    only_write: bool,
    as_json: bool,
) -> None:
    """Publish many tasks while faults strike at random, then wait for quiet and judge, as after any scenario.

    What is to happen is drawn from the seed before it begins and written as a scenario file: the same seed gives the
    same file, and `celery-chaos run FILE` runs it again. Losses that Celery is known for are told and not held against
    the run, if a fault explains each; any other one is.
    """
    if network:
        strikes = [*(strikes or DEFAULT), *(name for name in NETWORK if name not in strikes)]
    chosen = secrets.randbelow(1 << 31) if seed is None else seed
    text = written(Soak(chosen, tasks, clients, workers, faults, duration, list(strikes)))
    path = FOLDER / f"soak-{chosen}.chaos.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if only_write:
        click.echo(path)
        return
    from pytest_celery_chaos.cli import asked, become_pytest, can_run

    can_run([path], server=server, pool=None, select=None)
    click.echo(f"seed {chosen}: {path} (again: celery-chaos run {path})", err=as_json)
    options = asked(server=server, pool=None, select=None, jobs=1, times=1)
    become_pytest([*options, str(path)], as_json=as_json)
