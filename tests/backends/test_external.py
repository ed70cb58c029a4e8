"""A server that is only an address: it must be empty, it stays as it is, and is touched by leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import server_needed

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.runner import run_plan
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ScenarioError, StartFailed, UsageError
from pytest_celery_chaos.history.verdict import Verdict
from pytest_celery_chaos.scenario.compile import plans_of
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.system.ports import free_port

HEAD = """
scenario: On somebody else's server
profile: fast
broker: {{address: "{address}"{more}}}
workers:
  a: {{pool: solo}}
steps:
"""
SENDS = """
  - send: {{task: add, times: 5}}
    name: job
expect:
  - completed: {{task: job}}
"""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[LocalServer]:
    """A server that runs whether we come or not, with a password of its own."""
    with Keeper() as keeper:
        with server_needed():
            server = LocalServer(
                BrokerSpec("theirs", password=True), keeper, tmp_path / "theirs", tmp_path / "theirs.log"
            )
        server.start()
        yield server
        server.close()


@pytest.fixture
def run(session: Session, there: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("THEIR_PASSWORD", str(there.password))

    def run(steps: str = SENDS, **more: str) -> Verdict:
        said = "".join(f', {key}: "{value}"' for key, value in {"password_from": "THEIR_PASSWORD", **more}.items())
        file = tmp_path / "external.chaos.yaml"
        file.write_text((HEAD + steps).format(address=address(there), more=said))
        (plan,) = plans_of(file)
        return run_plan(plan, session)[0]

    return run


def address(server: LocalServer) -> str:
    return f"127.0.0.1:{server.port}"


def test_a_run_on_it_is_judged_and_leaves_it_running(run: Callable[..., Verdict], there: LocalServer) -> None:
    pid = there.child.pid if there.child else 0
    assert run().value == "holds"
    assert there.alive
    assert there.child is not None
    assert there.child.pid == pid


def test_one_that_holds_anything_is_not_touched(run: Callable[..., Verdict], there: LocalServer) -> None:
    there.client(3).set("theirs", "value")
    verdict = run(allow=address(there))
    assert verdict.value == "inconclusive"
    assert f"{address(there)} is not empty: 1 keys in db3" in verdict.why
    assert there.client(3).get("theirs") == b"value"
    assert there.client(0).dbsize() == 0


def test_where_it_is_allowed_the_run_empties_it_and_may_come_again(
    run: Callable[..., Verdict], there: LocalServer
) -> None:
    for _ in range(2):
        assert run(allow=address(there)).value == "holds"
        assert there.client(0).info("keyspace") == {}


def test_without_leave_nothing_is_taken_away(run: Callable[..., Verdict], there: LocalServer) -> None:
    assert run().value == "holds"
    assert there.client(1).dbsize() == 5  # results


def test_faults_of_data_need_leave(run: Callable[..., Verdict], there: LocalServer) -> None:
    steps = "  - delete: {{role: unacked}}\n    name: gone\n  - send: {{task: add}}\n    name: job\n"
    with pytest.raises(
        ScenarioError, match=r"external.chaos.yaml:8:5: `delete` touches what 127.0.0.1:\d+ holds"
    ) as no:
        run(steps)
    assert f'allow: "{address(there)}"' in str(no.value)


@pytest.mark.parametrize("verb", ["kill", "restart", "pause", "stop", "recreate", "disconnect", "loading", "misconf"])
def test_faults_of_the_process_are_refused_before_anything_starts(
    run: Callable[..., Verdict], there: LocalServer, verb: str
) -> None:
    steps = f"  - {verb}: {{{{broker: main}}}}\n  - send: {{{{task: add}}}}\n    name: job\n"
    with pytest.raises(ScenarioError, match=rf"`{verb}` needs the server's process"):
        run(steps, allow=address(there))


def test_the_password_is_seen_nowhere(run: Callable[..., Verdict], there: LocalServer, session: Session) -> None:
    run()
    stored = [path for path in session.store.rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if str(there.password).encode() in path.read_bytes()]


def test_a_wrong_password_and_none_are_told_apart_from_silence(
    run: Callable[..., Verdict], there: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_PASSWORD", "wrong")
    assert "does not answer" in run().why
    monkeypatch.delenv("THEIR_PASSWORD")
    with pytest.raises(UsageError, match="THEIR_PASSWORD is not set"):
        run()


def test_redis_cluster_is_refused_with_the_issue(there: LocalServer, session: Session, tmp_path: Path) -> None:
    there.stop()
    cluster = ["--cluster-enabled", "yes"]
    if not there.version.startswith("6."):  # which has its bus 10,000 above its port, where a connection may have begun
        cluster += ["--cluster-port", str(free_port())]
    there.start(arguments=cluster)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEIR_PASSWORD", str(there.password))
        spec = BrokerSpec(address=address(there), password_from="THEIR_PASSWORD")
        with pytest.raises(StartFailed, match=r"(?s)is a node of Redis Cluster.*celery/celery#2852"):
            session.provide(spec, tmp_path, tmp_path / "log").start()
    with pytest.raises(UsageError, match="celery/kombu#2204"):
        session.provide(BrokerSpec(options={"cluster-enabled": "yes"}), tmp_path, tmp_path / "log")


def test_what_is_said_of_an_address_fits_it(session: Session, tmp_path: Path) -> None:
    for spec, what in (
        ({"address": "127.0.0.1:1", "version": "8.1"}, "version of 127.0.0.1:1"),
        ({"address": "127.0.0.1:1", "allow": "127.0.0.1:2"}, "is not the address"),
        ({"allow": "127.0.0.1:2"}, "without `address:`"),
        ({"address": "somewhere"}, "is no address"),
    ):
        with pytest.raises(UsageError, match=what):
            session.provide(BrokerSpec(**spec), tmp_path, tmp_path / "log")  # type: ignore[arg-type]
    with pytest.raises(StartFailed, match=r"127\.0\.0\.1:1 does not answer"):
        session.provide(BrokerSpec(address="127.0.0.1:1"), tmp_path, tmp_path / "log").start()
