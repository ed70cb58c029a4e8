"""Runs whose links go through real Toxiproxy: which proxy is chosen, what a run does with it, and what it cannot do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from extras import engine_needed, missing
from live import Runs
from started import COMMAND, PYTEST, run

from pytest_celery_chaos.engine.interactive import conclude, start
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ServerNotFound, UsageError
from pytest_celery_chaos.network.toxiproxy import IMAGE, find
from pytest_celery_chaos.scenario.declared import declared_plan
from pytest_celery_chaos.system import wait


@pytest.fixture(autouse=True)
def there() -> None:
    """Real Toxiproxy; where it is missing the tests are skipped, and fail in CI."""
    try:
        find()
    except ServerNotFound as error:
        missing(str(error))


@pytest.fixture
def preferred(live_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """``chaos_proxy = toxiproxy``."""
    monkeypatch.setattr(live_session, "proxy", "toxiproxy")


BENT = """
workers:
  a: {{pool: {pool}}}
  b: {{pool: solo}}
steps:
  - latency: {{link: a-broker, latency: 100ms}}
    name: slow
  - send: {{task: count, times: 6}}
    name: job
  - wait: {{after: ack, task: job, nth: 6}}
  - down: {{link: [a-broker, main-broker]}}
    for: 1s
    name: away
  - wait: {{healed: away}}
  - send: {{task: count, times: 4}}
    name: after
expect:
  - completed: {{task: job}}
  - completed: {{task: after}}
"""


@pytest.mark.parametrize("pool", ["solo", "prefork"])
@pytest.mark.usefixtures("preferred")
def test_bytes_are_bent_and_nothing_is_lost(runs: Runs, pool: str) -> None:
    ran = runs(BENT.format(pool=pool))
    assert ran.verdict.value == "holds", ran
    assert ran.run.links.kind == "toxiproxy"
    logs = {log.name for log in (ran.folder / "logs").iterdir()}
    assert {"toxiproxy-a-broker.log", "toxiproxy-main-broker.log"} <= logs
    assert "proxy.log" not in logs


@pytest.mark.parametrize(
    "step",
    ["freeze: {link: a-broker}\n  for: 1s", "down: {link: a-broker, how: rst}\n  for: 1s", "cut: {link: a-broker}"],
)
@pytest.mark.usefixtures("preferred")
def test_what_it_cannot_do_our_own_proxy_does(runs: Runs, step: str) -> None:
    ran = runs(f"workers: {{a: {{pool: solo}}}}\nsteps:\n- {step}\n- send: add\n")
    assert ran.verdict.value == "holds", ran
    assert ran.run.links.kind == "resp"
    assert (ran.folder / "logs" / "proxy.log").exists()


def test_the_command_and_the_configuration_choose_it(tmp_path: Path) -> None:
    (tmp_path / "slow.chaos.yaml").write_text(
        "scenario: slow\nworkers: {a: {pool: solo}}\nsteps:\n- latency: {link: a-broker, latency: 50ms}\n- send: add\n"
    )
    done = run(*COMMAND, "run", "slow.chaos.yaml", "--proxy", "toxiproxy", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "pytest.ini").write_text("[pytest]\nchaos_proxy = toxiproxy\n")
    done = run(*PYTEST, "slow.chaos.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = list((tmp_path / ".celery-chaos" / "runs").iterdir())
    assert len([each for each in runs if (each / "logs" / "toxiproxy-a-broker.log").exists()]) == 2, runs
    (tmp_path / "pytest.ini").write_text("[pytest]\nchaos_proxy = nginx\n")
    done = run(*PYTEST, cwd=tmp_path)
    assert done.returncode == 4
    assert "chaos_proxy: no proxy is called 'nginx': resp or toxiproxy" in done.stderr


def test_a_file_that_insists_on_it_and_asks_too_much_says_so(runs: Runs) -> None:
    ran = runs("proxy: toxiproxy\nworkers: {a: {pool: solo}}\nsteps:\n- cut: {link: a-broker}\n")
    assert ran.verdict.value == "inconclusive", ran
    assert "go through Toxiproxy, which bends bytes alone" in ran.verdict.why


def test_connections_behind_it_are_known_and_a_dead_one_proves_nothing(live_session: Session) -> None:
    declared = {
        "app": "builtin",
        "workers": {"a": {"pool": "solo", "profile": "fast"}},
        "links": ["a-broker", "a-backend"],
        "proxy": "toxiproxy",
    }
    plan = declared_plan(declared, title="dies", server=None, pool=None)
    chaos = start(plan, live_session)
    chaos.client_kill(worker="a")
    with pytest.raises(UsageError, match="bends bytes alone"):
        chaos.freeze(link="a-broker")
    chaos.send(task="count", name="job")
    chaos.wait(at="succeeded", task="job")
    [killed] = [event for event in chaos.history.of("fault", "ok") if event.attrs.get("verb") == "client_kill"]
    assert killed.attrs["connections"], "the server was told of the worker's own"
    first, other = chaos.run.links.children
    os.kill(first.pid, signal.SIGKILL)
    wait.until(lambda: not first.alive, what="Toxiproxy to be gone", timeout=10)
    verdict, _ = conclude(chaos)
    assert (verdict.value, verdict.exit_code) == ("inconclusive", 6), verdict.why
    assert "the proxy has died" in verdict.why
    assert not other.alive


@pytest.mark.usefixtures("preferred")
def test_where_servers_run_in_containers_it_does_too(
    runs: Runs, live_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_needed(IMAGE)
    monkeypatch.setattr(live_session, "provider", "container")
    ran = runs(BENT.format(pool="solo"))
    assert ran.verdict.value == "holds", ran
    assert ran.run.links.kind == "toxiproxy"
    assert (ran.folder / "logs" / "toxiproxy-a-broker.log").stat().st_size
    labelled = {"label": [f"{key}={value}" for key, value in live_session.engine.labels.items()]}
    assert live_session.engine.docker.api.containers(all=True, filters=labelled) == []
