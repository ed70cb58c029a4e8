"""Workers in containers: their host names, their files, how an orchestrator ends them, and what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from extras import engine_needed

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.interactive import start
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.runner import finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ServerNotFound
from pytest_celery_chaos.system.child import Child
from pytest_celery_chaos.values import StartMethod
from pytest_celery_chaos.workers.container import GO
from pytest_celery_chaos.workers.recorded import recorded_environment
from pytest_celery_chaos.workers.spec import WorkerSpec

IMAGE = "valkey/valkey:8.1"
WORKERS = ("celery-chaos/worker:5.7", "celery-chaos/worker:5.5")
#: A place in the container that is not mounted.
INSIDE = "/tmp/a.state"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    engine_needed(IMAGE, *WORKERS)
    session = Session(tmp_path_factory.mktemp("runs"), provider="container")
    yield session
    session.close()


@pytest.fixture
def begin(session: Session) -> Iterator[Any]:
    begun: list[Chaos] = []

    def begin(**worker: Any) -> Chaos:
        spec = WorkerSpec("a", **{"pool": "solo", "profile": "fast", **worker})
        begun.append(start(Plan("workers", broker=BrokerSpec(image=IMAGE), workers={"a": spec}), session))
        return begun[-1]

    yield begin
    for chaos in begun:
        finish(chaos.run, session)


def containers(session: Session) -> Sequence[dict[str, Any]]:
    """Those of workers, as the engine tells them."""
    labels = [f"{key}={value}" for key, value in session.engine.labels.items()]
    found = session.engine.docker.api.containers(all=True, filters={"label": labels})
    return [each for each in found if each["Image"] in WORKERS]


def revokes(chaos: Chaos) -> list[str]:
    """The ids that the worker knew when it was last ready."""
    return list(chaos.history.of("ready")[-1].attrs["revoked"]["ids"])


def nodes(chaos: Chaos) -> list[str]:
    """The node's name at each start."""
    return [str(event.attrs["hostname"]) for event in chaos.history.of("ready")]


@pytest.mark.parametrize("celery", ["5.7", "5.5"])
def test_it_runs_the_celery_of_its_image(begin: Any, session: Session, celery: str) -> None:
    chaos = begin(celery=celery)
    chaos.send(task="add", args=[1, 2], name="job")
    chaos.wait(at="succeeded", task="job")
    [hello] = [event for event in chaos.history.of("hello") if event.source == "worker:a"]
    assert hello.attrs["versions"]["celery"].startswith(f"{celery}.")
    assert hello.pid == chaos.run.worker("a").pid
    assert [each["Image"] for each in containers(session)] == [f"celery-chaos/worker:{celery}"]


def test_each_container_has_a_host_name_of_its_own_unless_it_is_given(begin: Any) -> None:
    chaos = begin(hostname="a@%h")
    chaos.restart(worker="a")
    chaos.recreate(worker="a")
    first, again, other = nodes(chaos)
    assert first == again != other
    assert other == chaos.run.worker("a").hostname
    stable = begin(hostname="a@%h", container_hostname="worker-0")
    stable.recreate(worker="a")
    assert nodes(stable) == ["a@worker-0"] * 2


def test_what_it_keeps_in_its_own_files_goes_with_the_container(begin: Any, session: Session) -> None:
    chaos = begin(statedb=INSIDE)
    chaos.send(task="add", args=[1, 2], countdown=600, name="job")
    chaos.wait(at="received", task="job")
    chaos.revoke(task="job")
    chaos.wait(after="revoke", task="job")
    [one] = containers(session)
    chaos.restart(worker="a")
    assert [each["Id"] for each in containers(session)] == [one["Id"]]
    assert len(revokes(chaos)) == 1
    chaos.recreate(worker="a", how="warm")
    assert [each["Id"] for each in containers(session)] != [one["Id"]]
    assert revokes(chaos) == []


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_an_orchestrators_stop_is_a_warm_shutdown_or_after_its_grace_the_end(begin: Any, pool: str) -> None:
    chaos = begin(pool=pool)
    chaos.stop(worker="a")
    [ended] = [event for event in chaos.history.of("offline") if event.source == "worker:a"]
    assert (ended.attrs["code"], ended.attrs["asked"]) == (0, True)
    chaos.start(worker="a")
    chaos.send(task="sleep", kwargs={"seconds": 60}, name="long")
    chaos.wait(at="started", task="long")
    chaos.stop(worker="a", grace=1.0)
    ended = [event for event in chaos.history.of("offline") if event.source == "worker:a"][-1]
    assert (ended.attrs["signal"], ended.attrs["asked"]) == (9, True)


def test_a_frozen_pool_process_is_a_process_of_the_container(begin: Any) -> None:
    chaos = begin(pool="prefork", concurrency=2)
    child = chaos.run.worker("a").child
    pids = child.children()
    assert len(pids) == 2
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids]
    chaos.pause(worker="a")
    frozen = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in (child.pid, *pids)]
    assert frozen == ["T"] * 3
    chaos.run.heal()
    assert "T" not in states
    chaos.kill(worker="a")
    child.wait(10)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_nothing_is_left_of_a_run(begin: Any, session: Session) -> None:
    chaos = begin(pool="prefork")
    pid = chaos.run.worker("a").pid
    assert containers(session)
    finish(chaos.run, session)
    assert containers(session) == []
    assert not Path(f"/proc/{pid}").exists()


def test_an_image_that_is_not_to_be_had_is_named(begin: Any) -> None:
    with pytest.raises(ServerNotFound, match=r"worker 'a'.*no image nobody/has-it:1"):
        begin(image="nobody/has-it:1")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_it_imports_celery_beforehand_unless_it_is_to_be_spawned(tmp_path: Path, method: StartMethod) -> None:
    engine_needed(IMAGE, *WORKERS)
    session = Session(tmp_path, provider="container", start_method=method)
    spec = WorkerSpec("a", pool="solo", profile="fast")
    chaos = start(Plan("workers", broker=BrokerSpec(image=IMAGE), workers={"a": spec}), session)
    [one] = containers(session)
    said = session.engine.docker.api.inspect_container(one["Id"])["Config"]["Env"]
    assert any(each.startswith(f"{GO}=") for each in said) == (method == "forkserver")
    chaos.send(task="add", args=[1, 2], name="job")
    chaos.wait(at="succeeded", task="job")
    online = min(event.t for event in chaos.history.of("online") if event.source == "broker:main")
    began = chaos.run.worker("a").child
    assert began is not None
    assert method == "forkserver" or began.started > online  # else either may be first
    finish(chaos.run, session)
    session.close()


def test_one_that_is_spawned_otherwise_than_it_was_prepared_begins_anew(session: Session, tmp_path: Path) -> None:
    control = session.keeper.temp_folder()
    (tmp_path / "ledgers").mkdir()
    settings = {"broker_url": "redis://127.0.0.1:1/0", "result_backend": "redis://127.0.0.1:1/1"}
    ended: list[Child] = []
    process: dict[str, Any] = {"cwd": tmp_path, "log": tmp_path / "log", "on_exit": ended.append}
    container = session.contain(WorkerSpec("a"), [tmp_path, control], control)
    assert container is not None

    def environment(**extra: str) -> dict[str, str]:
        return recorded_environment(
            "worker:a", ledgers=tmp_path / "ledgers", control=control, settings=settings, extra=extra, base={}
        )

    container.prepare("worker:a", ["celery", "--version"], env=environment(), **process)
    child = container.spawn("worker:a", ["celery", "--version"], env=environment(MORE="1"), **process)
    assert child.wait(30).code == 0
    assert ended == [child]
    container.close()
