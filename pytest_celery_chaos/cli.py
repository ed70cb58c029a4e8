"""``celery-chaos``: run scenarios, judge stored runs again, check files, install servers.

Exit codes: 0 all as recorded, 1 violated (or a hazard that is fixed or has changed), 2 bad input, 6 inconclusive,
130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_celery_chaos.errors import ChaosError, ScenarioError, ServerNotFound, StoredRunError

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.spec import Server
    from pytest_celery_chaos.engine.plan import Plan
    from pytest_celery_chaos.history.verdict import Verdict
    from pytest_celery_chaos.values import Provider

BAD_INPUT = 2


class LazyGroup(click.Group):
    """Commands of another module are imported when they are asked for."""

    elsewhere: Mapping[str, str] = {
        "servers": "cli_servers",
        "doctor": "cli_servers",
        "matrix": "cli_matrix",
        "soak": "cli_soak",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.elsewhere:
            module = importlib.import_module(f"pytest_celery_chaos.{self.elsewhere[cmd_name]}")
            command: click.Command = getattr(module, cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=LazyGroup)
@click.version_option(package_name="pytest-celery-chaos")
def commands() -> None:
    """What happens to my Celery tasks when Redis dies?"""


@commands.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--server", help="Run on this server: valkey-9.1, redis-6.2, redis …")
@click.option("--pool", type=click.Choice(["prefork", "solo", "threads"]), help="For workers that state no pool.")
@click.option("--client", type=click.Choice(["redis", "valkey"]), help="By redis-py, or by valkey-py.")
@click.option("-k", "select", help="Only what matches, as pytest's -k.")
@click.option("-j", "jobs", type=click.IntRange(1), default=1, help="So many at a time.")
@click.option("--times", type=click.IntRange(1), default=1, help="Each so many times.")
@click.option("--proxy", type=click.Choice(["resp", "toxiproxy"]), help="What links go through, where it can do that.")
@click.option("--provider", type=click.Choice(["local", "container"]), help="As processes, or in containers.")
@click.option(
    "--start-method", type=click.Choice(["forkserver", "spawn"]), help="Fork workers with Celery imported, or not."
)
@click.option("--keep", is_flag=True, help="Leave the system up afterwards, and print its addresses.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def run(
    paths: Sequence[Path],
    server: str | None,
    pool: str | None,
    client: str | None,
    select: str | None,
    jobs: int,
    times: int,
    proxy: str | None,
    provider: str | None,
    start_method: str | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Run scenario files, or folders of them; without PATHS those that come with this package."""
    from pytest_celery_chaos.scenario.discover import discover

    if keep and jobs > 1:
        raise click.UsageError("--keep and -j exclude each other: keep one system at a time")
    chosen = discover(paths)
    ini = None if paths else own_ini(Path.cwd())
    can_run(chosen, server=server or server_in(ini), pool=pool, select=select, provider=provider)
    options = asked(server=server, pool=pool, select=select, jobs=jobs, times=times, provider=provider, client=client)
    options += [f"--chaos-proxy={proxy}"] if proxy else []
    options += [f"--chaos-start-method={start_method}"] if start_method else []
    options += ["--chaos-keep"] if keep else []
    options += ["-c", str(ini)] if ini else []
    become_pytest([*options, *map(str, chosen)], as_json=as_json)


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def check(folder: Path, as_json: bool) -> None:
    """Judge a stored run again, from its history alone."""
    from pytest_celery_chaos.report.verdict import explain

    status, verdict = _judged_again(folder)
    if as_json:
        click.echo(json.dumps({**verdict.to_json(), "status": status}, indent=1))
    elif verdict.judgements:
        click.echo(explain(verdict, folder))
    else:
        click.echo(f"{verdict.scenario}: {verdict.value}\n  {verdict.why}")
    sys.exit(verdict.exit_code)


@commands.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The problems as JSON.")
def lint(paths: Sequence[Path], as_json: bool) -> None:
    """Check scenario files without running anything; all mistakes of all files at once."""
    from pytest_celery_chaos.scenario.discover import discover

    files = discover(paths)
    _, failed = _plans(files)
    if as_json:
        click.echo(json.dumps({"files": len(files), "problems": failed}, indent=1))
    else:
        for text in failed.values():
            click.echo(text, err=True)
        click.echo(f"{len(files)} files, {len(failed)} with mistakes")
    sys.exit(BAD_INPUT if failed else 0)


@commands.command()
@click.option("--path", "as_path", is_flag=True, help="The path of the file that ships with the package.")
def schema(as_path: bool) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from pytest_celery_chaos.scenario.schema import FILE
    from pytest_celery_chaos.scenario.schema import schema as build

    click.echo(str(FILE) if as_path else json.dumps(build(), indent=1))


def _plans(
    files: Sequence[Path], *, server: str | None = None, pool: str | None = None
) -> tuple[list[Plan], dict[str, str]]:
    """The plans of all *files*, and what is wrong with each file that has mistakes."""
    from pytest_celery_chaos.scenario.compile import plans_of

    plans: list[Plan] = []
    mistakes: dict[str, str] = {}
    for file in files:
        try:
            plans += plans_of(file, server=server, pool=pool)
        except ScenarioError as error:
            mistakes[str(file)] = str(error)
    return plans, mistakes


def can_run(
    files: Sequence[Path], *, server: str | None, pool: str | None, select: str | None, provider: str | None = None
) -> None:
    """See before anything is started that *files* are right and that their servers are there.

    :raises ScenarioError: a file has mistakes; all of them are told.
    :raises ServerNotFound: a server, or the container engine, is not there. Not looked for where *select* may leave
        its scenario out.
    """
    plans, mistakes = _plans(files, server=server, pool=pool)
    if mistakes:
        raise ScenarioError("\n".join(mistakes.values()))
    if select is None:
        _servers_exist(plans, provider)


def asked(
    *,
    server: str | None,
    pool: str | None,
    select: str | None,
    jobs: int,
    times: int,
    provider: str | None = None,
    client: str | None = None,
) -> list[str]:
    """The options of the command as pytest's."""
    options = [f"--chaos-server={server}"] if server else []
    options += [f"--chaos-pool={pool}"] if pool else []
    options += [f"--chaos-provider={provider}"] if provider else []
    options += [f"--chaos-client={client}"] if client else []
    options += ["-k", select] if select else []
    options += ["-n", str(jobs)] if jobs > 1 else []
    return options + ([f"--chaos-times={times}"] if times > 1 else [])


def own_ini(folder: Path) -> Path | None:
    """pytest's configuration file for *folder*, found as pytest finds it for tests of that folder.

    The scenarios that come with the package lie elsewhere, and pytest would not look for it here.
    """
    for parent in (folder, *folder.parents):
        for name, section in _INIS.items():
            path = parent / name
            if path.is_file() and (
                section is None or re.search(section, path.read_text(errors="replace"), re.MULTILINE)
            ):
                return path
    return None


#: Names that pytest looks for, in its order, and the section without which the file is not meant for it.
_INIS: Mapping[str, str | None] = {
    "pytest.toml": None,
    ".pytest.toml": None,
    "pytest.ini": None,
    ".pytest.ini": None,
    "pyproject.toml": r"^\[tool\.pytest\b",
    "tox.ini": r"^\[pytest\]",
    "setup.cfg": r"^\[tool:pytest\]",
}


def server_in(ini: Path | None) -> str | None:
    """The server that *ini* names for scenarios (``chaos_server``)."""
    text = ini.read_text(errors="replace") if ini else ""
    found = re.search(r"""^chaos_server\s*=\s*["']?([\w.-]+)""", text, re.MULTILINE)
    return found[1] if found else None


def _servers_exist(plans: Sequence[Plan], provider: str | None) -> None:
    """Find every server, or the engine that has it, before anything is started. Raises ServerNotFound."""
    from pytest_celery_chaos.brokers.find import find
    from pytest_celery_chaos.scenario.discover import SUFFIX

    preferred: Provider = "container" if provider == "container" else "local"
    needed: dict[tuple[Server, str | None, str | None] | None, dict[str, None]] = {}  # None: the engine
    for plan in plans:
        for spec in (plan.broker, plan.backend):
            if spec is not None and not plan.skip:
                what = (spec.server, spec.version, spec.path) if spec.runs_in(preferred) == "local" else None
                needed.setdefault(what, {})[str(plan.file)] = None
    for what, files in needed.items():
        try:
            if what is not None:
                find(*what)
            else:
                from pytest_celery_chaos.system.engine import connect

                connect()
        except ServerNotFound as error:
            hint = error.hint
            if len(files) < len({plan.file for plan in plans}):
                names = " or ".join(Path(file).name.removesuffix(SUFFIX) for file in files)
                hint = f"{hint}; or leave out what needs it: -k 'not ({names})'"
            raise ServerNotFound(error.what, where=error.where or next(iter(files)), hint=hint) from None


def _judged_again(folder: Path) -> tuple[str, Verdict]:
    """The status of a stored run, and its verdict: of a run that did not come to its end, inconclusive.

    :raises StoredRunError: it is no run, or a damaged one.
    """
    from pytest_celery_chaos.checks.judge import judge
    from pytest_celery_chaos.history.store import load_info, load_run
    from pytest_celery_chaos.history.verdict import Verdict

    info = load_info(folder)
    status = str(info.get("status"))
    if status == "finished":
        stored = load_run(folder)
        return status, judge(stored.history, stored.plan)
    defect = f"the run is {status}" + (f": {info['ended_by']}" if "ended_by" in info else "")
    try:
        stored = load_run(folder)
        verdict = judge(stored.history, stored.plan)
    except StoredRunError:  # killed before it had written anything that could be judged
        verdict = Verdict([], str(info.get("scenario") or folder.name), info.get("variant"))
    return status, replace(verdict, defects=[defect, *verdict.defects])


def become_pytest(arguments: Sequence[str], *, as_json: bool) -> None:
    """Replace this process by pytest: one process fewer, and every signal reaches the one that matters."""
    line = pytest_line()
    sys.stdout.flush()
    if as_json:
        # The answer alone goes to standard output; what pytest has to say goes to standard error.
        answer = os.dup(1)
        os.set_inheritable(answer, True)
        os.dup2(2, 1)
        line.append(f"--chaos-answer={answer}")
    os.execv(sys.executable, [*line, *arguments])


def pytest_line() -> list[str]:
    """The command line that runs scenarios, without them."""
    line = [sys.executable, "-m", "pytest", "--no-header", "-q", "-rN", "--tb=short", f"--rootdir={Path.cwd()}"]
    # Hypothesis' plugin imports all of Hypothesis for its last words: 0.2 s of CPU and 5 MB of 42.
    return [*line, "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--chaos-command"]


def main() -> None:
    """The command's entry: an error of ours is a message and exit code 2, never a traceback."""
    try:
        commands(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except click.Abort:
        sys.exit(130)
    except ChaosError as error:
        click.echo(f"celery-chaos: {error}", err=True)
        sys.exit(BAD_INPUT)
