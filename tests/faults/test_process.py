"""Faults of processes, seen from outside by /proc: gone, frozen or another one, and back when they are healed."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pytest_celery_chaos.brokers.keys import pending_brpop
from pytest_celery_chaos.clients.spec import BeatSpec
from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system import wait

from .conftest import SetUp, Stage, solo

ROLES = {"worker": "a", "client": "main", "beat": "ticker", "broker": "main"}
CELERYS = [role for role in ROLES if role != "broker"]


@pytest.fixture(scope="module")
def whole(set_up: SetUp) -> Stage:
    """A broker that keeps its data, a client, a beat, and a worker of each of two pools."""
    return set_up(
        workers=[solo("a"), solo("pool", pool="prefork", concurrency=2)],
        persistence="aof-always",
        plan={"beats": {"ticker": BeatSpec("ticker")}},
    )


@pytest.fixture
def stage(whole: Stage) -> Iterator[Stage]:
    yield whole
    whole.run.heal()


def pid(stage: Stage, role: str, name: str | None = None) -> int:
    """Of the main process."""
    named = name or ROLES[role]
    return stage.broker.child.pid if role == "broker" else stage.run.process(role, named).pid


def children(stage: Stage) -> list[int]:
    """The processes of the pool."""
    child = stage.run.worker("pool").child
    assert child is not None
    return child.children()


def state(pid: int) -> str:
    """As in /proc/PID/stat: ``S`` sleeps, ``T`` is stopped; nothing where there is no such process, or is dead."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if letter in "ZX" else letter


def gone(*pids: int) -> None:
    wait.until(lambda: not any(map(state, pids)), what=f"{pids} to be gone", timeout=10)


def exit_of(stage: Stage, process: int) -> int | None:
    """How the process of that id has ended: its code, or a signal as a negative number."""

    def ended() -> Event | None:
        return next((e for e in stage.chaos.history.of("offline") if e.attrs["ended"] == process), None)

    attrs = wait.until(ended, what=f"the end of {process}", timeout=10).attrs
    number = attrs["signal"]
    return -int(number) if number else attrs["code"]


def answers(stage: Stage, role: str, before: int, name: str | None = None) -> None:
    """It is there again, as another process than before, and does what it is for."""
    now = pid(stage, role, name)
    assert now != before
    assert state(now)
    if role == "broker":
        assert stage.outside().ping()
    elif role == "worker":
        wait.until(lambda: len(pending_brpop(stage.run.redis())) == 2, what="both workers to consume", timeout=20)
    elif role == "client":
        assert stage.chaos.send(task="add") is None


@pytest.mark.parametrize("role", ROLES)
def test_who_is_killed_is_gone_and_heals_by_a_start(stage: Stage, role: str) -> None:
    before = pid(stage, role)
    stage.chaos.kill(**{role: ROLES[role]}, name="death")
    gone(before)
    assert exit_of(stage, before) == -signal.SIGKILL
    if role == "broker":
        with pytest.raises(redis.ConnectionError):
            stage.outside().ping()
    stage.chaos.heal(what="death")
    answers(stage, role, before)


@pytest.mark.parametrize("target", ["group", "main"])
def test_a_pool_goes_with_its_worker(stage: Stage, target: str) -> None:
    main, pool = pid(stage, "worker", "pool"), children(stage)
    assert len(pool) == 2
    stage.chaos.kill(worker="pool", target=target, name="death")
    gone(main, *pool)
    stage.chaos.heal(what="death")
    answers(stage, "worker", main, "pool")


def test_a_killed_child_is_replaced_and_its_worker_lives(stage: Stage) -> None:
    main, pool = pid(stage, "worker", "pool"), children(stage)
    stage.chaos.kill(worker="pool", target="child", name="death")
    gone(pool[0])
    wait.until(lambda: len(set(children(stage)) - {pool[0]}) == 2, what="a new child", timeout=20)
    stage.chaos.heal(what="death")
    assert pid(stage, "worker", "pool") == main
    with pytest.raises(UsageError, match="no pool processes"):
        stage.chaos.kill(worker="a", target="child")


@pytest.mark.parametrize(
    ("number", "expected"),
    [("TERM", 0), ("INT", 1), ("SIGSEGV", -signal.SIGSEGV)],  # SIGINT, too, is a warm shutdown, of another exit code
)
def test_a_signal_that_ends_a_worker_heals_by_a_start(stage: Stage, number: str, expected: int) -> None:
    before = pid(stage, "worker")
    stage.chaos.kill(worker="a", target="main", signal=number, name="death")
    stage.chaos.heal(what="death")  # while it may still be about to end
    assert exit_of(stage, before) == expected
    answers(stage, "worker", before)


def test_a_signal_that_ends_nothing_heals_nothing(stage: Stage) -> None:
    before = pid(stage, "worker")
    stage.chaos.kill(worker="a", target="main", signal="STOP", name="still")
    wait.until(lambda: state(before) == "T", what="the worker to stand still", timeout=5)
    stage.chaos.heal()
    assert state(before) == "T"
    stage.chaos.kill(worker="a", target="main", signal="CONT")
    wait.until(lambda: state(before) != "T", what="the worker to go on", timeout=5)
    assert pid(stage, "worker") == before


@pytest.mark.parametrize(
    ("role", "how", "code"),
    [
        ("worker", "warm", 0),
        ("worker", "soft", 0),
        ("worker", "cold", 0),
        ("worker", "kill", -signal.SIGKILL),
        ("client", "warm", -signal.SIGTERM),  # a program like any other, that knows nothing of shutdowns
        ("beat", "warm", 0),
        ("broker", "warm", 0),
        ("broker", "kill", -signal.SIGKILL),
    ],
)
def test_who_is_stopped_is_gone_and_heals_by_a_start(stage: Stage, role: str, how: str, code: int) -> None:
    before = pid(stage, role)
    stage.chaos.stop(**{role: ROLES[role]}, how=how, name="death")
    assert not state(before)
    assert exit_of(stage, before) == code
    stage.chaos.heal(what="death")
    answers(stage, role, before)


def test_who_does_not_go_within_its_grace_is_killed(stage: Stage) -> None:
    main, pool = pid(stage, "worker", "pool"), children(stage)
    stage.chaos.pause(worker="pool")
    stage.chaos.stop(worker="pool", how="warm", grace="200ms", name="death")
    gone(main, *pool)
    assert exit_of(stage, main) == -signal.SIGKILL
    stage.chaos.heal()
    answers(stage, "worker", main, "pool")


@pytest.mark.parametrize("resume", [False, True], ids=["heal", "resume"])
@pytest.mark.parametrize("role", ROLES)
def test_who_is_paused_stands_still_until_healed_or_resumed(stage: Stage, role: str, resume: bool) -> None:
    named = {role: "pool" if role == "worker" else ROLES[role]}
    pids = [pid(stage, role, named[role]), *(children(stage) if role == "worker" else [])]
    stage.chaos.pause(**named, name="frost")
    assert set(map(state, pids)) == {"T"}  # already: what the fault is said to have done, it has done
    if resume:
        stage.chaos.resume(**named)
    else:
        stage.chaos.heal(what="frost")
    wait.until(lambda: "T" not in map(state, pids), what=f"{pids} to go on", timeout=5)
    assert all(map(state, pids))
    stage.chaos.heal()
    assert pid(stage, role, named[role]) == pids[0]


@pytest.mark.parametrize("role", CELERYS)
def test_a_restart_makes_another_process(stage: Stage, role: str) -> None:
    before = pid(stage, role)
    stage.chaos.restart(**{role: ROLES[role]}, how="kill")
    assert not state(before)
    assert exit_of(stage, before) == -signal.SIGKILL
    answers(stage, role, before)


@pytest.mark.parametrize("how", ["kill", "warm"])
@pytest.mark.parametrize(("data", "left"), [("keep", b"value"), ("lose", None)])
def test_a_broker_comes_back_on_its_port_with_or_without_its_data(
    stage: Stage, how: str, data: str, left: bytes | None
) -> None:
    stage.outside(9).set("key", "value")
    before, port = pid(stage, "broker"), stage.broker.port
    stage.chaos.restart(broker="main", how=how, data=data)
    assert not state(before)
    assert exit_of(stage, before) == (-signal.SIGKILL if how == "kill" else 0)
    assert stage.broker.port == port
    assert stage.outside(9).get("key") == left


def test_data_that_a_process_does_not_have(stage: Stage) -> None:
    with pytest.raises(UsageError, match="restart of a broker with data 'cut'"):
        stage.chaos.restart(broker="main", data="cut")
    stage.chaos.stop(worker="a")
    with pytest.raises(UsageError, match="worker 'a' with data 'lose'"):
        stage.chaos.start(worker="a", data="lose")


def test_a_start_that_cannot_become_ready_or_ends_instead(set_up: SetUp) -> None:
    stage = set_up(workers=[solo("a", start=False), solo("b", start=False, options=["--no-such-option"])])
    with pytest.raises(StartFailed):
        stage.chaos.start(worker="b")
    stage.chaos.start(worker="b", may_fail=True)
    assert not stage.run.worker("b").alive
    stage.chaos.kill(broker="main")
    stage.chaos.start(worker="a", ready=False)
    stage.chaos.wait(at="connection_lost", worker="a")
    assert state(pid(stage, "worker"))
    assert not stage.chaos.history.of("ready", source="worker:a")


def test_who_is_held_has_everything_in_its_hands_until_it_is_healed(set_up: SetUp) -> None:
    stage = set_up(workers=[solo("a")], plan={"config": {"task_acks_late": True}})
    stage.chaos.hold(name="held", when={"before": "ack", "task": "job"})
    stage.chaos.send(task="count", name="job")
    stage.chaos.wait(at="held", task="job")
    broker, results = stage.outside(), stage.outside(1)
    assert broker.hlen("unacked") == broker.zcard("unacked_index") == 1
    assert len(results.keys("celery-task-meta-*")) == 1
    stage.chaos.heal(what="held")
    wait.until(lambda: not broker.exists("unacked", "unacked_index"), what="the acknowledgement", timeout=10)


def test_a_heal_waits_for_a_hold_whose_process_is_on_its_way(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = set_up(workers=[solo("a")])
    gate = stage.run.gate
    serve = gate._serve

    def late(connection: socket.socket) -> None:
        time.sleep(0.5)  # the event is in the history before its process has come to the gate
        serve(connection)

    monkeypatch.setattr(gate, "_serve", late)
    stage.chaos.hold(when={"at": "connection_lost", "worker": "a"}, name="losing")
    stage.chaos.client_kill(worker="a")
    stage.chaos.wait(at="connection_lost", worker="a")
    stage.chaos.heal(what="losing")
    stage.chaos.wait(at="released", worker="a")
