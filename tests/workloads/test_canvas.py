"""Groups, chords, chains and maps, published by a client, run by real workers, and read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from planted.plans import Outcome, plan, step, worker

from pytest_celery_chaos.engine.plan import Expectation, Plan
from pytest_celery_chaos.history.labels import BODY, HEADER, MEMBER, link, part_id
from pytest_celery_chaos.workloads.parts import Many, Part, Task

CarryOut = Callable[[Plan], Outcome]
POOLS = ("prefork", "solo")


def ran(outcome: Outcome, label: str) -> list[str]:
    """The ids of the label that succeeded, in the order of definition."""
    return sorted({event.task for event in outcome.history.of("succeeded", task=label) if event.task})


def prefix(outcome: Outcome, label: str) -> str:
    (found,) = outcome.history.prefixes[label]
    return found


def read(outcome: Outcome) -> list[dict[str, Any]]:
    """What each join got."""
    return [dict(event.attrs) for event in outcome.history.of("joined", "ok")]


@pytest.mark.parametrize("pool", POOLS)
def test_a_group_is_read_in_its_order_by_several_threads(carry_out: CarryOut, pool: str) -> None:
    steps = [step("group", task="echo", each=[[0, 0.2], [1, 0.1], [2]], name="g"), step("get", task="g", threads=3)]
    outcome = carry_out(plan("group", [worker(pool=pool)], steps, Expectation("executions", {"task": "g"})))
    assert outcome.verdict.value == "holds", outcome.story()
    assert ran(outcome, "g") == [part_id(prefix(outcome, "g"), MEMBER, number) for number in range(3)]
    assert [each["got"] for each in read(outcome)] == [["0", "1", "2"]] * 3


@pytest.mark.parametrize("pool", POOLS)
def test_the_body_of_a_chord_is_given_what_its_parts_returned(carry_out: CarryOut, pool: str) -> None:
    steps = [step("chord", header=Many("echo", numbered=4), body="collect", name="c"), step("get", task="c")]
    outcome = carry_out(plan("chord", [worker(pool=pool)], steps, Expectation("completed", {"task": "c.body"})))
    assert outcome.verdict.value == "holds", outcome.story()
    start = prefix(outcome, "c")
    assert ran(outcome, "c") == [*(part_id(start, HEADER, n) for n in range(4)), part_id(start, BODY)]
    (dispatched,) = outcome.history.of("chord")
    assert (dispatched.task, dispatched.attrs["digests"]) == (part_id(start, BODY), ["0", "1", "2", "3"])
    assert [event.attrs["state"] for event in outcome.history.of("get", "ok", task="c.body")] == ["SUCCESS"]


def test_a_header_may_hold_groups_and_chains_and_a_body_may_be_a_chain(carry_out: CarryOut) -> None:
    header = [Part(group=[Task("echo", [1]), Task("echo", [2])]), Part(chain=[Task("echo", [3]), "echo"]), "collect"]
    steps = [step("chord", header=header, body=Part(chain=["collect", "echo"]), name="c"), step("get", task="c")]
    outcome = carry_out(plan("nested", [worker()], steps))
    assert outcome.verdict.value == "holds", outcome.story()
    start = prefix(outcome, "c")
    assert ran(outcome, "c") == [
        *(part_id(start, HEADER, n) for n in range(5)),
        part_id(start, BODY),
        part_id(start, BODY, 1),
    ]
    (dispatched,) = outcome.history.of("chord")
    assert sorted(dispatched.attrs["digests"]) == ["1", "2", "3", "null"]


def test_a_chain_goes_on_from_link_to_link(carry_out: CarryOut) -> None:
    tasks = [Task("add", [1, 2]), Task("add", [10]), "echo", Task("echo", [0], immutable=True)]
    outcome = carry_out(plan("chain", [worker()], [step("chain", tasks=tasks, name="f"), step("get", task="f")]))
    assert outcome.verdict.value == "holds", outcome.story()
    assert ran(outcome, "f") == [part_id(prefix(outcome, "f"), link(number)) for number in range(4)]


def test_maps_are_one_message_and_chunks_are_several(carry_out: CarryOut) -> None:
    steps = [
        step("map", task="echo", items=[1, 2, 3], name="m"),
        step("map", task="add", items=[[1, 2], [3, 4]], how="starmap", name="s"),
        step("map", task="add", items=[[1, 2], [3, 4], [5, 6]], how="chunks", size=2, name="k"),
        *(step("get", task=name) for name in ("m", "s", "k")),
    ]
    outcome = carry_out(plan("map", [worker()], steps))
    assert outcome.verdict.value == "holds", outcome.story()
    assert [len(ran(outcome, name)) for name in ("m", "s", "k")] == [1, 1, 2]
    assert len(outcome.history.of("get", "ok")) == 2
    assert [each["results"] for each in read(outcome)] == [2]


def test_a_group_that_never_ends_does_not_hold_up_the_harness(carry_out: CarryOut) -> None:
    steps = [step("group", task="sleep", each=[60], name="g"), step("get", task="g", timeout=0.5, threads=2)]
    outcome = carry_out(plan("no end", [worker()], steps, observe=0.1))
    assert len(outcome.history.of("joined", "fail")) == 2, outcome.story()


def test_a_second_client_reads_what_the_first_has_published(carry_out: CarryOut) -> None:
    from pytest_celery_chaos.clients.spec import ClientSpec

    steps = [
        step("group", task="echo", numbered=3, name="g", client="web"),
        step("get", task="g", client="api"),
        step("send", task="echo", args=[1], times=2, name="two", client="api"),
        step("get", task="two", client="web"),
    ]
    clients = {name: ClientSpec(name) for name in ("web", "api")}
    outcome = carry_out(plan("two clients", [worker()], steps, clients=clients))
    assert outcome.verdict.value == "holds", outcome.story()
    assert {event.source for event in outcome.history.of("publish", "ok", task="g")} == {"client:web"}
    (joined,) = outcome.history.of("joined", "ok")
    assert (joined.source, joined.attrs["got"]) == ("client:api", ["0", "1", "2"])
    assert [event.source for event in outcome.history.of("get", "ok")] == ["client:web"] * 2
