"""pytest's hooks: scenario files are collected, verdicts become outcomes, runs are summed up at the end.

This module is imported in every pytest run of whoever has the package installed: it imports nothing that a run
without chaos does not need.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
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
    from pytest_celery_chaos.engine.chaos import Chaos
    from pytest_celery_chaos.engine.plan import Plan
    from pytest_celery_chaos.engine.session import Session
    from pytest_celery_chaos.history.verdict import Verdict

SUFFIX = ".chaos.yaml"
#: Exit codes beside pytest's own 0 to 5; the last two are the command's.
EXIT_INCONCLUSIVE = 6
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
#: Those of :data:`values.ProxyKind`, without importing it.
PROXIES = ("resp", "toxiproxy")
#: Those of :data:`values.Provider`.
PROVIDERS = ("local", "container")
#: Those of :data:`values.StartMethod`.
START_METHODS = ("forkserver", "spawn")
#: Those of :data:`values.ClientLibrary`.
CLIENTS = ("redis", "valkey")
SESSION = pytest.StashKey["Session"]()
RESULTS = pytest.StashKey["Results"]()
#: The test's own run, left here by the fixture however it was asked for, to be judged when the test's code is through.
CHAOS: pytest.StashKey[Chaos] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "chaos testing of Celery brokers")
    group.addoption("--chaos-server", metavar="NAME", help="run on this server: valkey-9.1, redis-6.2, redis …")
    group.addoption("--chaos-client", choices=CLIENTS, help="Celery reaches servers by redis-py, or by valkey-py")
    group.addoption("--chaos-pool", metavar="POOL", help="run workers that state no pool on this one")
    group.addoption("--chaos-proxy", choices=PROXIES, help="what links go through, where that can do what is asked")
    group.addoption(
        "--chaos-provider", choices=PROVIDERS, help="run brokers and workers as processes, or in containers"
    )
    group.addoption(
        "--chaos-start-method",
        choices=START_METHODS,
        help="fork workers with Celery imported, or start Python anew",
    )
    group.addoption("--chaos-keep", action="store_true", help="leave the system up afterwards, print its addresses")
    group.addoption("--chaos-times", type=int, default=1, metavar="N", help="run each scenario so many times")
    # How `celery-chaos run` starts us, and where it wants the result as JSON.
    group.addoption("--chaos-command", action="store_true", help=argparse.SUPPRESS)
    group.addoption("--chaos-answer", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.addini("chaos_app", "the Celery application under test, as `celery -A` takes it: proj.celery:app")
    parser.addini("chaos_server", "the server that scenarios and fixtures use unless they name one: valkey-9.1")
    parser.addini("chaos_client", "by which library Celery reaches servers, unless a scenario says it: redis, valkey")
    parser.addini("chaos_proxy", "what links go through, where that can do what is asked: resp, toxiproxy")
    parser.addini("chaos_provider", "where brokers and workers run unless they say it: local, container")
    parser.addini("chaos_start_method", "how workers start: forkserver (Celery is imported once), spawn (each anew)")
    parser.addini("chaos_images", "images to take instead, one a line: redis:8.0 = registry/redis:8.0", type="linelist")
    parser.addini("chaos_runs", "folder that runs are stored in", default=".celery-chaos/runs")
    parser.addini("chaos_retention", "which finished runs are kept: all, failed, last:N", default="last:200")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "chaos(broker=…, backend=…, workers=…, config=…, app=…, links=…, quiet=…): what the `chaos` fixture starts "
        "for this test; the keys and values are those of a scenario file",
    )
    _check_retention(config)
    for option, known in (("proxy", PROXIES), ("provider", PROVIDERS), ("start_method", START_METHODS)):
        if (said := config.getini(f"chaos_{option}")) not in ("", *known):
            what = option.replace("_", " ")
            raise pytest.UsageError(f"chaos_{option}: no {what} is called {said!r}: {' or '.join(known)}")
    images_of(config)
    config.stash[RESULTS] = Results(config)
    config.pluginmanager.register(config.stash[RESULTS], "celery_chaos_results")
    if hasattr(config, "workerinput"):
        # An xdist controller that is killed tells nobody: our keeper watches it, and ends this worker with it.
        os.environ["CELERY_CHAOS_WATCH"] = str(os.getppid())
    if config.getoption("--chaos-command"):
        _follow_controller(config)


def _check_retention(config: pytest.Config) -> None:
    rule = str(config.getini("chaos_retention"))
    if rule.startswith("last:") and rule[5:].isdecimal():
        return  # spares every run without chaos an import
    from pytest_celery_chaos.engine.folder import retained
    from pytest_celery_chaos.errors import UsageError

    try:
        retained(rule)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def _follow_controller(config: pytest.Config) -> None:
    """A worker of xdist that has to do with chaos ends with its controller, also before it has a keeper.

    And so does pytest itself with the command that started it and waits for it (``celery-chaos matrix``).
    """
    if "CELERY_CHAOS_WATCH" in os.environ:
        from pytest_celery_chaos.engine.session import follow, watched

        follow(watched())


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()
    if RESULTS in config.stash and (terminal := config.stash[RESULTS].terminal) is not None:
        config.stash[RESULTS].terminal = None
        os.close(terminal)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    named = parent.config.getoption("--chaos-command") and parent.session.isinitpath(file_path)
    if file_path.name.endswith(SUFFIX) or named:  # the command takes a scenario file by any name
        _follow_controller(parent.config)
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """A scenario file: one item for each of its variants."""

    def collect(self) -> Iterator[pytest.Item]:
        from pytest_celery_chaos.errors import ChaosError
        from pytest_celery_chaos.scenario.compile import plans_of

        server = self.config.getoption("--chaos-server") or self.config.getini("chaos_server") or None
        try:
            pool = self.config.getoption("--chaos-pool")
            plans = plans_of(self.path, server=server, pool=pool, client=client_of(self.config))
        except ChaosError as error:
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
        with progress(self.config, session):
            verdict, run = run_plan(self.plan, session)
        outcome(self, verdict, run.folder.path, kept=run.kept())

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

        proxy: Any = config.getoption("--chaos-proxy") or config.getini("chaos_proxy") or "resp"
        provider: Any = config.getoption("--chaos-provider") or config.getini("chaos_provider") or "local"
        method: Any = config.getoption("--chaos-start-method") or config.getini("chaos_start_method") or "forkserver"
        config.stash[SESSION] = Session(
            store_of(config),
            keep=config.getoption("--chaos-keep"),
            proxy=proxy,
            provider=provider,
            start_method=method,
            images=images_of(config),
        )
    return config.stash[SESSION]


def client_of(config: pytest.Config) -> Any:
    """The client library that is asked for: ``redis``, ``valkey``; None: what each scenario says."""
    found = config.getoption("--chaos-client") or config.getini("chaos_client") or None
    if found not in (None, *CLIENTS):
        raise pytest.UsageError(f"chaos_client: {found!r}: write {' or '.join(CLIENTS)}")
    return found


def images_of(config: pytest.Config) -> dict[str, str]:
    """By an image's name, the one to take in its place."""
    images = {}
    for line in config.getini("chaos_images"):
        name, _, other = (part.strip() for part in line.partition("="))
        if not name or not other:
            raise pytest.UsageError(f"chaos_images: {line!r}: write NAME = OTHER, an image and the one to take instead")
        images[name] = other
    return images


def store_of(config: pytest.Config) -> Path:
    """The folder that runs are stored in."""
    return config.rootpath / str(config.getini("chaos_runs"))


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
    chaos = item.stash.get(CHAOS, None)
    if chaos is not None:
        from pytest_celery_chaos.fixtures import conclude_chaos

        session = session_of(item.config)
        with progress(item.config, session):
            verdict, folder = conclude_chaos(chaos)
        outcome(item, verdict, folder, kept=chaos.run.kept())
    return result


class progress:
    """While a run is under way at a terminal: the step, what is awaited, and the seconds left, behind pytest's dots.

    It has a file of its own to the terminal: while a test runs, pytest captures what is written to standard output.
    """

    def __init__(self, config: pytest.Config, session: Session) -> None:
        self._terminal = config.stash[RESULTS].terminal
        self._writer = getattr(config.pluginmanager.getplugin("terminalreporter"), "_tw", None)
        self._session = session

    def __enter__(self) -> None:
        if self._terminal is not None and self._writer is not None:
            from pytest_celery_chaos.system import wait

            wait.observe(self._show)

    def __exit__(self, *_: object) -> None:
        if self._terminal is not None and self._writer is not None:
            from pytest_celery_chaos.system import wait

            wait.observe(None)
            os.write(self._terminal, _ERASE)

    def _show(self, what: str, left: float) -> None:
        assert self._terminal is not None
        assert self._writer is not None
        line = f"  {self._session.doing}: {what} ({left:.0f} s left)"
        # A line that wraps could not be taken back.
        room = (os.get_terminal_size(self._terminal).columns or 80) - self._writer.width_of_current_line - 1
        os.write(self._terminal, b"\x1b7" + _ERASE + line[: max(room, 0)].encode() + b"\x1b8")


#: To the end of the line. ESC 7 and ESC 8 keep the cursor where pytest has left it.
_ERASE = b"\x1b[K"


class Results:
    """What the runs of a session came to: the rows of its table, its exit code, and whether it was interrupted."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.command = bool(config.getoption("--chaos-command"))
        self.worker = hasattr(config, "workerinput")
        self.rows: list[dict[str, Any]] = []
        self.failures = 0
        self.interrupted = False
        self.signals = 0
        at_terminal = not self.worker and os.isatty(1) and os.environ.get("TERM") != "dumb"
        self.terminal = os.dup(1) if at_terminal else None
        if self.command and not self.worker:
            signal.signal(signal.SIGINT, self._signalled)
            signal.signal(signal.SIGTERM, self._signalled)

    def _signalled(self, number: int, frame: object) -> None:
        """The first Ctrl-C (or TERM) heals and ends the run; a second cuts the healing short; a third is the end.

        Beside healing nothing takes long then, so that the second need not break into it.
        """
        self.signals += 1
        session = self.config.stash.get(SESSION, None)
        if self.signals == 1 or (self.signals == 2 and session is not None and session.doing == "heal"):
            raise KeyboardInterrupt
        if self.signals > 2:
            os._exit(EXIT_INTERRUPTED)  # the keeper ends everything

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # Errors of collection, and --maxfail, come as an interruption, too.
        self.interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)
        if SESSION in self.config.stash:
            self.config.stash[SESSION].interrupted = self.interrupted

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rows: list[Any] = [value for key, value in report.user_properties if key == "chaos"]
        if report.when == "call":
            self.rows.extend(rows)
        inconclusive = any(not row["as_recorded"] and row["verdict"] == "inconclusive" for row in rows)
        if report.failed and not (inconclusive and report.when == "call"):
            self.failures += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if SESSION in self.config.stash:
            self.config.stash[SESSION].close()
        if self.worker:
            return
        if self.rows:
            from pytest_celery_chaos.engine.folder import retain

            # By the controller alone, when no run is under way in another process of this session.
            retain(store_of(self.config), self.config.getini("chaos_retention"))
        session.exitstatus = self._exit_code(exitstatus)
        if (answer := self.config.getoption("--chaos-answer")) is not None:
            with os.fdopen(answer, "w") as output:
                output.write(json.dumps({"exit_code": int(session.exitstatus), "runs": self.rows}, indent=1) + "\n")

    def _exit_code(self, status: int) -> int:
        inconclusive = any(row["verdict"] == "inconclusive" for row in self.rows)
        if status == pytest.ExitCode.TESTS_FAILED and inconclusive and not self.failures:
            return EXIT_INCONCLUSIVE
        if not self.command or status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return status
        return EXIT_INTERRUPTED if self.interrupted else EXIT_BAD_INPUT

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.rows:
            return
        from pytest_celery_chaos.report.terminal import counts, table

        writer = terminalreporter._tw
        terminalreporter.section("chaos")
        terminalreporter.write_line(table(self.rows, width=max(writer.fullwidth, 120), colour=writer.hasmarkup))
        terminalreporter.write_line("")
        terminalreporter.write_line(counts(self.rows))
        terminalreporter.write_line(f"runs are stored in {store_of(self.config)}")
        for line in {line: None for row in self.rows for line in row["kept"] if not self.interrupted}:
            terminalreporter.write_line(line)
