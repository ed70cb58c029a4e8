"""pytest's hooks: scenario files are collected, verdicts become outcomes, runs are summed up at the end.

This module is imported in every pytest run of whoever has the package installed: it imports nothing that a run
without chaos does not need.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_celery_chaos.fixtures import (  # pytest finds fixtures among a plugin's names
    chaos as chaos,
)
from pytest_celery_chaos.fixtures import (
    chaos_app as chaos_app,
)
from pytest_celery_chaos.fixtures import (
    chaos_broker as chaos_broker,
)
from pytest_celery_chaos.fixtures import (
    chaos_history as chaos_history,
)

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.plan import Plan
    from pytest_celery_chaos.engine.session import Session
    from pytest_celery_chaos.history.verdict import Verdict

SUFFIX = ".chaos.yaml"
EXIT_INCONCLUSIVE = 6
#: Set by `celery-chaos run`, whose exit codes are its own: 130 interrupted, 2 for what is not a verdict.
COMMAND = "CELERY_CHAOS_COMMAND"
_COMMAND_EXITS: dict[int, int] = {
    pytest.ExitCode.INTERRUPTED: 130,
    pytest.ExitCode.INTERNAL_ERROR: 2,
    pytest.ExitCode.USAGE_ERROR: 2,
    pytest.ExitCode.NO_TESTS_COLLECTED: 2,
}
SESSION = pytest.StashKey["Session"]()
ROWS = pytest.StashKey[list[dict[str, Any]]]()
FAILURES = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "chaos testing of Celery brokers")
    group.addoption("--chaos-server", metavar="NAME", help="run on this server: valkey-9.1, redis-6.2, redis …")
    group.addoption("--chaos-pool", metavar="POOL", help="run workers that state no pool on this one")
    group.addoption("--chaos-keep", action="store_true", help="leave the system up afterwards, print its addresses")
    group.addoption("--chaos-times", type=int, default=1, metavar="N", help="run each scenario so many times")
    parser.addini("chaos_app", "the Celery application under test, as `celery -A` takes it: proj.celery:app")
    parser.addini("chaos_server", "the server that scenarios and fixtures use unless they name one: valkey-9.1")
    parser.addini("chaos_runs", "folder that runs are stored in", default=".celery-chaos/runs")
    parser.addini("chaos_retention", "which finished runs are kept: all, failed, last:N", default="last:200")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "chaos(broker=…, backend=…, workers=…, config=…, app=…, quiet=…): what the `chaos` fixture starts "
        "for this test; the keys and values are those of a scenario file",
    )
    config.stash[ROWS] = []
    config.stash[FAILURES] = 0
    if hasattr(config, "workerinput"):
        # An xdist controller that is killed tells nobody: our keeper watches it, and ends this worker with it.
        os.environ["CELERY_CHAOS_WATCH"] = str(os.getppid())


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(SUFFIX):
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """A scenario file: one item for each of its variants."""

    def collect(self) -> Iterator[pytest.Item]:
        from pytest_celery_chaos.errors import ScenarioError
        from pytest_celery_chaos.scenario.compile import plans_of

        server = self.config.getoption("--chaos-server") or self.config.getini("chaos_server") or None
        try:
            plans = plans_of(self.path, server=server, pool=self.config.getoption("--chaos-pool"))
        except ScenarioError as error:
            raise self.CollectError(str(error)) from None
        times = self.config.getoption("--chaos-times")
        for plan in plans:
            for number in range(times):
                name = plan.variant or "scenario"
                yield ScenarioItem.from_parent(self, name=f"{name}-{number + 1}" if times > 1 else name, plan=plan)


class ScenarioItem(pytest.Item):
    """One variant of a scenario: run, judged, and compared with what its file records."""

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.add_marker("chaos")

    def runtest(self) -> None:
        from pytest_celery_chaos.engine.runner import run_plan

        if self.plan.skip:
            pytest.skip(self.plan.skip)
        session = session_of(self.config)
        with progress(self.config):
            verdict, run = run_plan(self.plan, session)
        outcome(self, verdict, run.folder.path, kept=run.environment.addresses() if session.keep else ())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from pytest_celery_chaos.errors import ChaosError

        if isinstance(excinfo.value, (ChaosError, pytest.fail.Exception)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, 0, f"{self.plan.scenario} [{self.name}]"


def session_of(config: pytest.Config) -> Session:
    """The keeper and store of this test process, made at first use."""
    if SESSION not in config.stash:
        from pytest_celery_chaos.engine.session import Session

        store = config.rootpath / config.getini("chaos_runs")
        config.stash[SESSION] = Session(store, keep=config.getoption("--chaos-keep"))
    return config.stash[SESSION]


def outcome(item: pytest.Item, verdict: Verdict, folder: Path, *, kept: Any = ()) -> None:
    """Turn *verdict* into pytest's words: return, xfail for a hazard that shows, fail for the rest."""
    from pytest_celery_chaos.report.verdict import explain, row

    record = row(folder, item.nodeid, list(kept))
    item.user_properties.append(("chaos", record))
    if verdict.value == "hazard":
        pytest.xfail(verdict.why)
    if not verdict.as_recorded:
        pytest.fail(explain(verdict, folder), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    # A violation is found in the call phase, so that it is a failure of the test and not an error of a teardown;
    # an exception of the test's own comes first.
    result = yield
    conclude = getattr(item, "funcargs", {}).get("chaos")
    if conclude is not None:
        from pytest_celery_chaos.fixtures import conclude_chaos

        verdict, folder = conclude_chaos(conclude)
        outcome(item, verdict, folder)
    return result


class progress:
    """While a scenario runs at a terminal: what is awaited, and the seconds left, on one line."""

    def __init__(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        self._writer = getattr(reporter, "_tw", None) if reporter is not None and reporter.isatty else None

    def __enter__(self) -> None:
        if self._writer is not None:
            from pytest_celery_chaos.system import wait

            writer = self._writer
            wait.observe(lambda what, left: writer.write(f"\r\x1b[2K  … {what} ({left:.0f} s left)", flush=True))

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            from pytest_celery_chaos.system import wait

            wait.observe(None)
            self._writer.write("\r\x1b[2K", flush=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    config = _config
    if config is None or report.when != "call":
        return
    rows = [value for key, value in report.user_properties if key == "chaos"]
    config.stash[ROWS].extend(rows)  # type: ignore[arg-type]
    if report.failed and not any(not row["as_recorded"] and row["verdict"] == "inconclusive" for row in rows):  # type: ignore[index]
        config.stash[FAILURES] += 1


_config: pytest.Config | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    global _config
    _config = session.config


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if SESSION in config.stash:
        config.stash[SESSION].close()
        from pytest_celery_chaos.engine.folder import retain

        retain(config.stash[SESSION].store, config.getini("chaos_retention"))
    rows = config.stash[ROWS]
    inconclusive = any(row["verdict"] == "inconclusive" for row in rows)
    if exitstatus == pytest.ExitCode.TESTS_FAILED and inconclusive and not config.stash[FAILURES]:
        session.exitstatus = EXIT_INCONCLUSIVE
    elif os.environ.get(COMMAND) and not hasattr(config, "workerinput"):
        session.exitstatus = _COMMAND_EXITS.get(exitstatus, session.exitstatus)
    if (answer := os.environ.get("CELERY_CHAOS_JSON_FD")) and not hasattr(config, "workerinput"):
        with os.fdopen(int(answer), "w") as output:
            output.write(json.dumps({"exit_code": int(session.exitstatus), "runs": rows}, indent=1) + "\n")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    from pytest_celery_chaos.report.terminal import counts, table

    writer = terminalreporter._tw
    terminalreporter.section("chaos")
    terminalreporter.write_line(table(rows, width=max(writer.fullwidth, 100), colour=writer.hasmarkup))
    terminalreporter.write_line("")
    terminalreporter.write_line(counts(rows))
    terminalreporter.write_line(f"runs are stored in {config.rootpath / config.getini('chaos_runs')}")
    for row in rows:
        for address in row["kept"]:
            terminalreporter.write_line(f"still up: {address}")
