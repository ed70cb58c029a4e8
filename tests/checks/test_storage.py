"""The checks of what is stored: `stored`, `leaked_keys`, `foreign_keys`, `ttl`, `bindings`, `unacked_index`."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.checks.storage import bindings, foreign_keys, leaked_keys, stored, ttl, unacked_index

from .story import Story, clean

BOUND = {"celery": ["celery||celery"], "shop": ["order|order.#|orders", "order|order.#|audit"]}


def run(before: dict[str, Any], after: dict[str, Any], **more: Any) -> Story:
    """A run that stores *before* at the start and *after* at the end, results in the other database."""
    story = Story().worker("a").stores("start", before, bindings=BOUND).send("t1").works("a", "t1").at(2)
    return story.stores("end", after, **{"results": {"result": 5}, "bindings": BOUND, **more}).ends()


@pytest.mark.parametrize(
    ("args", "seen"),
    [({"role": "result", "max": 5}, 5), ({"role": "result", "min": 5, "bytes": 500}, 5), ({"role": "reply"}, 0)],
)
def test_so_many_are_stored(args: dict[str, Any], seen: int) -> None:
    finding = stored(run({}, {}).history(), **args)
    assert (finding.outcome, finding.seen) == ("holds", seen)


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        ({"role": "result"}, 5),
        ({"role": "result", "max": 4}, 5),
        ({"role": "result", "min": 6}, 5),
        ({"role": "result", "bytes": 499}, 500),
        ({"role": "chord"}, 3),
    ],
)
def test_other_numbers_violate(args: dict[str, Any], seen: int) -> None:
    finding = stored(run({}, {"chord": 3}).history(), **args)
    assert (finding.outcome, finding.seen) == ("violated", seen)


def test_nothing_where_something_must_be_stored_violates() -> None:
    finding = stored(run({}, {}, results={}).history(), role="result", min=1)
    assert (finding.outcome, finding.seen) == ("violated", 0)


def test_a_snapshot_step_is_a_look_as_well() -> None:
    story = clean().stores("start").stores("full", results={"result": 3}).stores("end").ends()
    assert stored(story.history(), role="result", at="full", max=2).outcome == "violated"
    assert stored(story.history(), role="result").outcome == "holds"


@pytest.mark.parametrize("check", [lambda h: stored(h, role="result"), leaked_keys, foreign_keys, ttl, bindings])
def test_nobody_looked_is_inconclusive(check: Any) -> None:
    assert check(clean().ends().history()).outcome == "inconclusive"
    silent = clean().stores("start").stores("end", unanswered={"main": "ConnectionError: refused"}).ends()
    finding = check(silent.history())
    assert finding.outcome == "inconclusive" or check is foreign_keys
    if check is leaked_keys:
        assert "ConnectionError" in finding.why


def test_keys_that_expire_and_results_are_no_leak() -> None:
    after = {"binding": (3, 3), "queue": (1, 1), "unacked": (1, 1), "reply": 4, "chord": 3}
    finding = leaked_keys(run({"binding": (2, 2)}, after).history())
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert leaked_keys(run({}, {}, results={"result": (9, 9)}).history()).outcome == "holds"


@pytest.mark.parametrize(
    ("after", "count"),
    [
        ({"reply": (1, 1)}, 1),
        ({"chord": (1, 1), "reply": (4, 2)}, 3),
        ({"statedb": (2, 2), "other": (1, 1)}, 3),
    ],
)
def test_keys_that_stay_are_leaked(after: dict[str, Any], count: int) -> None:
    story = run({"binding": (2, 2)}, after)  # what was there before is gone
    finding = leaked_keys(story.history())
    assert (finding.outcome, finding.seen) == ("violated", count)
    assert f"{list(after)[-1]}-0" in finding.why
    assert leaked_keys(story.history(), max=count).outcome == "holds"


def test_keys_may_be_compared_with_a_snapshot() -> None:
    story = clean().stores("start").stores("warm", {"reply": (1, 1)}).stores("end", {"reply": (1, 1)}).ends()
    assert leaked_keys(story.history()).outcome == "violated"
    assert leaked_keys(story.history(), since="warm").outcome == "holds"


def test_every_key_is_somebodys() -> None:
    assert foreign_keys(run({"binding": 1}, {"binding": 1}).history()).outcome == "holds"


@pytest.mark.parametrize(
    ("before", "after", "count"), [({}, {"other": 2}, 2), ({"other": 1}, {}, 1), ({"other": 1}, {"other": 3}, 3)]
)
def test_a_key_of_nobody_is_foreign(before: dict[str, Any], after: dict[str, Any], count: int) -> None:
    finding = foreign_keys(run(before, after).history())
    assert (finding.outcome, finding.seen) == ("violated", count)
    assert "other-0" in finding.why


def test_results_and_replies_expire() -> None:
    finding = ttl(run({}, {"reply": 2, "binding": (2, 2)}).history())
    assert (finding.outcome, finding.seen) == ("holds", 0)


@pytest.mark.parametrize(
    ("after", "results", "count"),
    [({"reply": (2, 1)}, {}, 1), ({}, {"result": (9, 9)}, 9), ({"reply": (1, 1)}, {"chord": (3, 2)}, 3)],
)
def test_what_never_expires_is_counted(after: dict[str, Any], results: dict[str, Any], count: int) -> None:
    finding = ttl(run({}, after, results=results).history())
    assert (finding.outcome, finding.seen) == ("violated", count)
    assert "-0" in finding.why


def test_where_nothing_was_to_expire() -> None:
    assert ttl(run({}, {"binding": (2, 2)}, results={}).history()).outcome == "inconclusive"
    assert ttl(run({}, {"reply": 1}).history(), role="chord").outcome == "inconclusive"


def test_bindings_are_as_they_were() -> None:
    more = {**BOUND, "new": ["x||x"], "celeryev": []}
    assert bindings(run({}, {}, bindings=more).history()).outcome == "holds"


@pytest.mark.parametrize(
    ("after", "count"),
    [({}, 3), ({"shop": BOUND["shop"]}, 1), ({**BOUND, "shop": BOUND["shop"][:1]}, 1)],
)
def test_bindings_that_are_gone(after: dict[str, Any], count: int) -> None:
    finding = bindings(run({}, {}, bindings=after).history())
    assert (finding.outcome, finding.seen) == ("violated", count)


def test_bindings_of_remote_control_come_and_go() -> None:
    story = Story().worker("a").stores("start", bindings={"celery.pidbox": ["||a@chaos.celery.pidbox"]}).stores("end")
    assert bindings(story.ends().history()).outcome == "inconclusive"
    assert bindings(story.history(), exchange="celery.pidbox").outcome == "violated"


def test_unacked_and_its_index_agree() -> None:
    story = clean().looks(unacked=["t1"]).ends()
    assert unacked_index(story.history()).outcome == "holds"
    assert unacked_index(clean().harness("end").history()).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("look", "count"),
    [({"unacked": ["t1"], "index": []}, 1), ({"index": ["t1", "t2"]}, 2), ({"unacked": ["t1"], "index": ["t2"]}, 2)],
)
def test_deliveries_that_one_of_them_alone_names(look: dict[str, Any], count: int) -> None:
    finding = unacked_index(clean().looks(**look).ends().history())
    assert (finding.outcome, finding.seen) == ("violated", count)
