"""What is said of groups, chords and chains, and by which ids their parts are known."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.engine.labels import Labels
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.labels import BODY, GROUP, HEADER, MEMBER, link, of_part, part_id, part_prefix
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.workloads.canvas import ORDERS
from pytest_celery_chaos.workloads.parts import Many, Part, Task, name_of, size, told


def test_the_parts_of_a_step_are_known_by_their_ids() -> None:
    for part, role, number in [
        ("body", BODY, 0),
        ("header", HEADER, 7),
        ("header.3", HEADER, 3),
        ("3", MEMBER, 3),
        ("link0", link(0), 0),
        ("link17.2", link(17), 2),
    ]:
        prefix = part_prefix(part)
        assert prefix is not None
        assert part_id("01234567-", role, number).startswith(f"01234567-{prefix}"), part
    assert not part_id("01234567-", HEADER, 30).startswith(f"01234567-{part_prefix('header.3')}")


def test_ids_are_in_the_order_of_definition_and_all_differ() -> None:
    ids = [part_id("01234567-", HEADER, number) for number in (0, 1, 9, 10, 255, 256, 65_535, 65_536, 10_000_000)]
    assert ids == sorted(ids)
    roles = [MEMBER, HEADER, BODY, GROUP, *(link(number) for number in range(300))]
    assert len({part_id("01234567-", role) for role in roles}) == len(roles)
    assert all(len(one) == 36 and one.count("-") == 4 for one in ids)


@pytest.mark.parametrize(
    "name", ["c", "c.", "c.tail", "c.header.x", "c.-1", "c.link", "c.link4096", "proj.tasks.add", "c.body.body"]
)
def test_what_means_no_part(name: str) -> None:
    assert of_part(name) is None


def test_labels_are_known_before_anything_is_published() -> None:
    labels = Labels(["c"])
    assert "c" in labels
    assert "c.body" in labels
    assert "c.tail" not in labels
    assert "d.body" not in labels
    assert labels.prefix_of("c.body") == labels.prefix_of("c") + "b000-"
    assert labels.prefix_of("d") != labels.prefix_of("c")
    assert labels.prefix_of("d") == labels.prefix_of("d")


def test_a_history_knows_the_parts_of_a_label() -> None:
    ids = [part_id("01234567-", role, number) for role, number in ((HEADER, 0), (HEADER, 1), (BODY, 0))]
    label = Event(1, "harness", "label", attrs={"label": "c", "prefix": "01234567-", "name": "add", "times": 3})
    history = History([label, *(Event(2 + n, "client:a", "publish", "ok", one) for n, one in enumerate(ids))])
    assert history.ids("c") == tuple(ids)
    assert history.ids("c.header") == tuple(ids[:2])
    assert history.ids("c.header.1") == (ids[1],)
    assert history.ids("c.body") == (ids[2],)
    assert history.ids("c.link0") == ()
    assert history.ids("d.body") == ()


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        (["add", Part("echo", args=[1]), "add"], 3),
        (Many("echo", times=4), 4),
        (Many("echo", numbered=1000), 1000),
        (Many("echo", each=[1, [2, 0.5]]), 2),
        ([Part(group=["add", Task("add")]), Part(chain=["add", "add"]), "add"], 5),
    ],
)
def test_how_many_tasks_there_are(parts: Any, count: int) -> None:
    assert size(told(parts)) == count
    assert name_of(told(parts)) in ("add", "echo")


def test_a_thousand_parts_are_told_in_a_few_words() -> None:
    assert len(str(told(Many("echo", numbered=1000)))) < 100


@pytest.mark.parametrize(
    ("verb", "args", "why"),
    [
        ("group", {}, "neither tasks nor task"),
        ("group", {"tasks": ["add"], "task": "add"}, "both tasks and task"),
        ("group", {"tasks": []}, "no parts"),
        ("group", {"tasks": ["add"], "times": 3}, "times beside tasks"),
        ("group", {"task": "add"}, "given by nothing"),
        ("group", {"task": "add", "times": 2, "numbered": 2}, "times and numbered"),
        ("group", {"task": "add", "each": []}, "no parts of 'add'"),
        ("chord", {"header": []}, "no parts"),
        ("chord", {"header": [Part()]}, "a part is nothing"),
        ("chord", {"header": ["add"], "body": Part("add", chain=["add"])}, "task and chain"),
        ("chain", {"tasks": []}, "no parts"),
        ("chain", {"tasks": ["add"] * 4097}, "4097 tasks"),
    ],
)
def test_what_does_not_go_together(verb: str, args: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ORDERS[verb](**args)
