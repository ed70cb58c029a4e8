"""`connections`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.checks.connections import connections, subscriptions

from .story import Story, clean


def run(before: dict[str, int], after: dict[str, int], to_backend: dict[str, int] | None = None) -> Story:
    story = clean().stores("start", clients=before, to_backend={"client:main": 1})
    return story.stores("end", clients=after, to_backend=to_backend or {"client:main": 1}).ends()


def test_a_few_more_are_the_pools() -> None:
    finding = connections(run({"worker:a": 5, "client:main": 1}, {"worker:a": 9, "client:main": 2}).history())
    assert (finding.outcome, finding.seen) == ("holds", 4)
    assert "worker:a 9 (before 5)" in finding.why


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        ({}, 15),
        ({"more": 14}, 15),
        ({"worker": "a", "more": 0}, 15),
        ({"max": 19}, 20),
        ({"client": "main", "to": "backend", "more": 1}, 3),
        ({"client": "main", "to": "backend", "max": 3}, 4),
    ],
)
def test_too_many(args: dict[str, Any], seen: int) -> None:
    story = run({"worker:a": 5, "worker:b": 5}, {"worker:a": 20, "worker:b": 5}, {"client:main": 4})
    finding = connections(story.history(), **args)
    assert (finding.outcome, finding.seen) == ("violated", seen)


def test_bounds_that_are_kept() -> None:
    story = run({"worker:a": 5}, {"worker:a": 20}, {"client:main": 4})
    assert connections(story.history(), worker="a", max=20).seen == 20
    assert connections(story.history(), client="main", to="backend", max=4).outcome == "holds"
    assert connections(story.history(), worker="a", more=15).outcome == "holds"


def test_a_client_connects_when_it_is_first_asked_to() -> None:
    assert connections(run({"worker:a": 5}, {"client:main": 6}).history()).seen == 6
    story = clean().stores("start").stores("end", clients={"client:main": 30}).ends()
    assert connections(story.history()).outcome == "violated"


def test_a_worker_that_came_later_is_held_against_the_maximum_alone() -> None:
    story = run({"worker:a": 5}, {"worker:a": 5, "worker:b": 50})
    assert connections(story.history()).outcome == "holds"
    assert connections(story.history(), max=40).seen == 50


def test_a_snapshot_may_be_what_it_is_compared_with() -> None:
    story = clean().stores("start", clients={"worker:a": 1}).stores("warm", clients={"worker:a": 20})
    story.stores("end", clients={"worker:a": 21}).ends()
    assert connections(story.history(), since="warm", more=1).outcome == "holds"
    assert connections(story.history()).outcome == "violated"
    assert connections(story.history(), at="warm", more=18).outcome == "violated"


def test_what_shows_nothing_is_inconclusive() -> None:
    assert connections(clean().ends().history()).outcome == "inconclusive"
    assert connections(run({"worker:a": 5}, {"worker:a": 5}).history(), worker="b").outcome == "inconclusive"
    assert connections(run({}, {"worker:b": 5}).history(), worker="b").outcome == "inconclusive"


def subscribed(**channels: int) -> Story:
    """A look at the end: by process, to how many channels it is subscribed, on one connection of two."""
    rows = []
    for process, count in channels.items():
        about = {"server": "main", "process": process.replace("_", ":"), "db": 1, "count": 1}
        rows += [{**about, "kind": "normal"}, {**about, "kind": "pubsub", "channels": count}]
    return clean().harness("storage", name="end", spaces=[], clients=rows).ends()


@pytest.mark.parametrize(
    ("args", "seen"), [({"max": 3}, 200), ({"max": 3, "client": "web"}, 5), ({"max": 0, "worker": "a"}, 1)]
)
def test_too_many_channels(args: dict[str, Any], seen: int) -> None:
    finding = subscriptions(subscribed(client_main=200, client_web=5, worker_a=1).history(), **args)
    assert (finding.outcome, finding.seen) == ("violated", seen)


@pytest.mark.parametrize("channels", [{"client_main": 4}, {"worker_a": 1, "client_web": 7}])
def test_one_process_with_too_many_is_enough(channels: dict[str, int]) -> None:
    finding = subscriptions(subscribed(**channels).history(), max=3)
    assert (finding.outcome, finding.seen) == ("violated", max(channels.values()))


def test_few_channels() -> None:
    history = subscribed(client_main=3, worker_a=1).history()
    assert (subscriptions(history, max=3).outcome, subscriptions(history, max=3).seen) == ("holds", 3)
    assert subscriptions(history, max=1, worker="a").outcome == "holds"


def test_nobody_looked_or_was_there() -> None:
    assert subscriptions(clean().ends().history(), max=3).outcome == "inconclusive"
    assert subscriptions(subscribed(worker_a=1).history(), max=3, client="main").outcome == "inconclusive"
    assert subscriptions(subscribed(worker_a=1).history(), max=3, at="mid").outcome == "inconclusive"
