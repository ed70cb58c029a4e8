"""A process is held where it is told to, goes on when it is told to, and never waits for nobody."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import record
from pytest_celery_chaos.workers.inside.celery_chaos_recorder.gate import Gate, Rule

PAGE = 65536
HEAD = struct.Struct("<QI")


class Control:
    """The harness's side of the control folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "control").write_bytes(bytes(PAGE))
        handle = os.open(folder / "control", os.O_RDWR)
        self.page = mmap.mmap(handle, PAGE)
        os.close(handle)
        self.generation = 0

    def arm(self, *rules: dict[str, Any], finish: bool = True) -> None:
        data = json.dumps(rules).encode()
        HEAD.pack_into(self.page, 0, self.generation + 1, len(data))
        self.page[HEAD.size : HEAD.size + len(data)] = data
        self.generation += 2
        if finish:
            struct.pack_into("<Q", self.page, 0, self.generation)

    def listen(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(self.folder / "gate.sock"))
        server.listen()
        server.settimeout(10)
        return server


@pytest.fixture
def control(lab_keeper: Keeper) -> Control:
    return Control(lab_keeper.temp_folder())


@pytest.fixture
def recorder(control: Control, tmp_path: Path) -> Iterator[Any]:
    """This process, recorded, with its gate at *control*."""
    record.begin(str(tmp_path), "worker:a", str(control.folder), "test")
    yield lambda: [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    record.end()


def rule(**given: Any) -> dict[str, Any]:
    return {"id": 1, "kind": "started", "phase": None, "source": None, "ids": None, "names": None, **given}


def matches(
    given: dict[str, Any], *, phase: str | None = None, task: str = "id-1", name: str = "add", **more: Any
) -> bool:
    return Rule(given).matches(phase, more.get("source", "worker:a"), task, name, more.get("ids", ()))


def test_a_rule_matches_by_phase_source_id_and_name() -> None:
    assert matches(rule())
    assert not matches(rule(), phase="ok")
    assert matches(rule(phase="ok"), phase="ok")
    assert not matches(rule(phase="ok"), phase="invoke")
    assert matches(rule(source="worker:a"))
    assert not matches(rule(source="worker:b"))
    assert matches(rule(ids=["x", "id-"]))
    assert not matches(rule(ids=["x"]))
    assert matches(rule(names=["add"]))
    assert not matches(rule(names=["mul"]))
    assert matches(rule(ids=["x"], names=["add"]))
    assert matches(rule(ids=["id-60"]), task="", ids=[f"id-{n}" for n in range(70)])
    assert not matches(rule(ids=[]), phase="ok")


def test_rules_are_read_again_only_when_the_generation_changes(control: Control) -> None:
    gate = Gate(str(control.folder))
    assert not gate.rules("started")
    control.arm(rule(), rule(id=2, kind="ack", phase="ok"))
    assert [each.id for each in gate.rules("started")] == [1]
    assert [each.id for each in gate.rules("ack")] == [2]
    control.arm()
    assert not gate.rules("started")


def test_a_page_that_is_never_finished_leaves_the_old_rules_in_force(control: Control) -> None:
    gate = Gate(str(control.folder))
    control.arm(rule())
    assert gate.rules("started")
    control.arm(rule(kind="ack"), finish=False)
    began = time.thread_time()  # not the time of day: others may have the processor meanwhile
    assert [each.id for each in gate.rules("started")] == [1]
    assert time.thread_time() - began < 1


def test_readers_see_whole_rules_while_the_page_is_rewritten(control: Control) -> None:
    gate, stop, errors = Gate(str(control.folder)), threading.Event(), []

    def rewrite() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            control.arm(*[rule(id=number, names=["x" * (number % 50)])] * (number % 7 + 1))

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(3000):
            found = gate.rules("started")
            if len({each.id for each in found}) > 1:
                errors.append(found)
    finally:
        stop.set()
        writer.join()
    assert not errors


@pytest.mark.parametrize(("answer", "how"), [(b"g", "go"), (b"", "eof")])
def test_a_held_process_goes_on_at_a_byte_and_at_the_end_of_the_harness(
    control: Control, recorder: Any, answer: bytes, how: str
) -> None:
    control.arm(rule(names=["add"], deadline=10))
    server = control.listen()
    done = threading.Event()

    def reach() -> None:
        record.emit("started", None, "id-1", name="add", tag="t")
        done.set()

    thread = threading.Thread(target=reach)
    thread.start()
    connection, _ = server.accept()
    told = json.loads(connection.makefile().readline())
    assert told["rules"] == [1]
    assert told["event"] == recorder()[-1], "the event was written before the hold, and is the one told"
    assert told["event"]["attrs"] == {"tag": "t", "name": "add"}
    assert not done.is_set()
    if answer:
        connection.sendall(answer)
        thread.join(5)
    else:
        connection.close()
    assert done.wait(5)
    released = recorder()[-1]
    assert (released["kind"], released["task"], released["attrs"]["how"]) == ("released", "id-1", how)
    assert released["attrs"]["held"] > 0
    server.close()


def test_a_hold_ends_at_the_largest_deadline_of_its_rules(control: Control, recorder: Any) -> None:
    control.arm(rule(deadline=0.05), rule(id=2, deadline=0.3))
    server = control.listen()
    began = time.monotonic()
    record.emit("started", None, "id-1")
    took = time.monotonic() - began
    assert 0.25 < took < 3
    released = recorder()[-1]
    assert released["attrs"]["how"] == "deadline"
    assert released["attrs"]["rules"] == [1, 2]
    server.close()


def test_nobody_listening_is_nothing_to_wait_for(control: Control, recorder: Any) -> None:
    control.arm(rule(deadline=60))
    began = time.monotonic()
    record.emit("started", None, "id-1")
    assert time.monotonic() - began < 1
    assert recorder()[-1]["kind"] == "started"


def test_what_is_not_armed_never_waits_and_costs_little(control: Control, recorder: Any) -> None:
    control.arm(rule(kind="ack", phase="ok"))
    began = time.monotonic()
    for _ in range(2000):
        record.emit("started", None, "id-1", name="add", tag="t")
    assert (time.monotonic() - began) / 2000 < 0.001
    assert not [event for event in recorder() if event["kind"] == "released"]


def test_a_pop_is_held_at_and_never_written(control: Control, recorder: Any) -> None:
    control.arm(rule(kind="pop", phase="invoke", deadline=0.05))
    server = control.listen()
    thread = threading.Thread(target=record.hold, args=("pop", "invoke"))
    thread.start()
    connection, _ = server.accept()
    told = json.loads(connection.makefile().readline())
    assert (told["event"]["kind"], told["event"]["phase"], told["event"]["source"]) == ("pop", "invoke", "worker:a")
    thread.join()
    assert [event["kind"] for event in recorder()] == ["hello", "released"]
    server.close()


def test_a_rule_by_name_holds_at_an_event_that_knows_only_the_id(control: Control, recorder: Any) -> None:
    record.emit("popped", None, "id-1", name="add")
    control.arm(rule(kind="ack", phase="ok", names=["add"], deadline=0.05))
    server = control.listen()
    thread = threading.Thread(target=record.emit, args=("ack", "ok", "id-1"))
    thread.start()
    told = json.loads(server.accept()[0].makefile().readline())
    assert told["event"]["attrs"]["name"] == "add"
    thread.join()
    server.close()


def test_a_revoke_of_very_many_ids_tells_the_one_that_is_meant(control: Control, recorder: Any) -> None:
    control.arm(rule(kind="revoke", phase="ok", ids=["id-69"], deadline=0.05))
    server = control.listen()
    thread = threading.Thread(
        target=lambda: record.emit("revoke", "ok", ids=[f"id-{n}" for n in range(70)], method="revoke")
    )
    thread.start()
    told = json.loads(server.accept()[0].makefile().readline())
    assert "id-69" in told["event"]["attrs"]["ids"]
    thread.join()
    server.close()


def test_signal_handlers_are_never_held(control: Control, recorder: Any) -> None:
    control.arm(rule(kind="signal", deadline=60))
    server = control.listen()
    began = time.monotonic()
    record.emit("signal", holds=False, signal="SIGTERM")
    assert time.monotonic() - began < 1
    server.close()
