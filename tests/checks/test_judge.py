"""From findings to a verdict: hazards, and what outweighs what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_celery_chaos.checks import ALWAYS
from pytest_celery_chaos.checks.judge import judge
from pytest_celery_chaos.errors import StoredRunError, UsageError
from pytest_celery_chaos.history.verdict import Verdict

from .story import Story, clean


def plan(*expect: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"scenario": "s", "variant": "killed", "expect": list(expect), "observe": None, "axes": {}, **more}


def expected(check: str, *hazards: dict[str, Any], **args: Any) -> dict[str, Any]:
    return {"check": check, "args": args, "hazards": list(hazards), "place": "x.chaos.yaml:3:5"}


def hazard(seen: object, **more: Any) -> dict[str, Any]:
    return {"seen": seen, "ref": "KF-20", "why": "by design", "variant": [], "where": {}, **more}


def one_lost() -> Story:
    story = clean().send("t3").takes("a", "t3").acks("a", "t3").starts("a", "t3").kill("a")
    return story.worker("b").ends()


def outcome_of(verdict: Verdict, check: str) -> str:
    return next(j.outcome for j in verdict.judgements if j.check == check)


def test_a_clean_run_holds_by_the_checks_that_always_apply() -> None:
    verdict = judge(clean().ends().history(), plan())
    assert verdict.value == "holds", verdict.why
    assert {j.check for j in verdict.judgements} == set(ALWAYS)
    assert all(j.always for j in verdict.judgements)
    assert (verdict.as_recorded, verdict.exit_code) == (True, 0)


def test_a_violation_that_nobody_recorded() -> None:
    verdict = judge(one_lost().history(), plan())
    assert (verdict.value, verdict.exit_code) == ("violated", 1)
    assert verdict.why.startswith("lost: 1 task lost of 3")


def test_a_hazard_that_shows_as_recorded() -> None:
    verdict = judge(one_lost().history(), plan(expected("lost", hazard(1))))
    assert (verdict.value, verdict.exit_code) == ("hazard", 0)
    assert sum(j.check == "lost" for j in verdict.judgements) == 1, "an expectation replaces the check of its name"
    assert verdict.why.startswith("lost: KF-20: 1 task lost")


@pytest.mark.parametrize("seen", [[1, 3], (0.5, 1)])
def test_a_hazard_may_be_pinned_between_two_bounds(seen: object) -> None:
    assert judge(one_lost().history(), plan(expected("lost", hazard(seen)))).value == "hazard"


@pytest.mark.parametrize("seen", [2, 0, [2, 5]])
def test_a_hazard_that_shows_otherwise_is_a_regression(seen: object) -> None:
    verdict = judge(one_lost().history(), plan(expected("lost", hazard(seen))))
    assert outcome_of(verdict, "lost") == "regression"
    assert verdict.value == "violated"
    assert "but seen is 1" in verdict.why


def test_a_hazard_that_no_longer_shows_is_fixed_and_fails() -> None:
    verdict = judge(clean().ends().history(), plan(expected("lost", hazard(1))))
    assert outcome_of(verdict, "lost") == "fixed"
    assert (verdict.value, verdict.exit_code) == ("violated", 1)
    assert "it holds now" in verdict.why


def test_a_hazard_that_could_not_show_is_not_fixed() -> None:
    history = clean().harness("missed", verb="kill", moment="before run").ends().history()
    assert judge(history, plan(expected("lost", hazard(1)))).value == "inconclusive"


def test_what_was_seen_to_go_wrong_outweighs_what_could_not_be_judged() -> None:
    story = one_lost()
    story.harness("missed", verb="kill", moment="before run")
    assert judge(story.history(), plan()).value == "violated"


def test_a_damaged_record_proves_nothing() -> None:
    story = one_lost()
    del story.events[7]
    verdict = judge(story.history(), plan())
    assert (verdict.value, verdict.exit_code) == ("inconclusive", 6)
    assert "damaged" in verdict.why


@pytest.mark.parametrize(
    ("where", "applies"),
    [
        ({}, True),
        ({"variant": ["killed", "warm"]}, True),
        ({"variant": ["warm"]}, False),
        ({"where": {"kombu": "<5.8"}}, True),
        ({"where": {"kombu": "<5.7"}}, False),
        ({"where": {"kombu": ">=5.6,<5.8", "pool": "prefork"}}, True),
        ({"where": {"pool": "solo"}}, False),
        ({"where": {"server": "valkey"}}, True),
        ({"where": {"server": "valkey>=9"}}, True),
        ({"where": {"server": "redis<7"}}, False),
        ({"where": {"server": "redis"}}, False),
        ({"where": {"celery": "5.7.0"}}, True),
        ({"where": {"redis": "==8.*"}}, True),
        ({"where": {"moon": "full"}}, True),
        ({"where": {"moon": "new"}}, False),
        ({"where": {"kombu": "<<5"}}, False),
        ({"where": {"nobody": "knows"}}, False),
    ],
)
def test_where_a_hazard_is_recorded(where: dict[str, Any], applies: bool) -> None:
    verdict = judge(one_lost().history(), plan(expected("lost", hazard(1, **where)), axes={"moon": "full"}))
    assert verdict.value == ("hazard" if applies else "violated")


def test_who_observes_expects_leftovers() -> None:
    history = clean().looks(queues={"celery": ["x"]}).harness("observed", seconds=5).harness("end").history()
    assert judge(history, plan(observe=5.0)).value == "holds"
    assert judge(history, plan()).value == "violated"
    assert judge(history, plan(expected("clean_end"), observe=5.0)).value == "violated"


def test_a_step_that_never_took_effect_makes_the_run_inconclusive() -> None:
    steps = [
        {"index": 1, "verb": "pause", "name": None},
        {"index": 2, "verb": "kill", "name": "death", "place": "f:1:2"},
    ]
    verdict = judge(clean().ends().history(), plan(steps=steps))
    assert verdict.value == "inconclusive"
    assert "kill death (f:1:2)" in verdict.why


def test_an_unknown_check_is_an_error_and_a_broken_one_is_inconclusive() -> None:
    with pytest.raises(UsageError, match="no check is called 'lots'"):
        judge(clean().ends().history(), plan(expected("lots")))
    assert judge(clean().ends().history(), plan(expected("executions", colour="red"))).value == "inconclusive"
    assert (
        judge(clean().ends().history(), plan(expected("executions", task="add", max=1, exactly=1))).value
        == "inconclusive"
    )


def test_nothing_at_all_is_inconclusive() -> None:
    assert judge(Story().history(), plan()).value == "inconclusive"
    assert Verdict([]).value == "inconclusive"


def test_a_verdict_is_stored_and_read_back() -> None:
    verdict = judge(one_lost().history(), plan(expected("lost", hazard(1)), expected("executions", task="add", max=1)))
    stored = json.loads(json.dumps(verdict.to_json()))
    assert stored["as_recorded"] is True
    again = Verdict.from_json(stored)
    assert again.to_json() == stored
    assert again.value == verdict.value
    for broken in ({}, {"verdict": 99}, {**stored, "judgements": [{}]}, {**stored, "judgements": 7}):
        with pytest.raises(StoredRunError):
            Verdict.from_json(broken)


@pytest.mark.parametrize(
    ("check", "args", "cut", "quiet"),
    [
        ("completed", {"task": "t3"}, "inconclusive", "violated"),
        ("executions", {"task": "t3", "exactly": 2}, "inconclusive", "violated"),
        ("completed", {"task": "t3", "within": 0.001}, "violated", "violated"),
    ],
)
def test_what_could_still_have_happened_is_not_missing_from_a_run_that_was_cut_short(
    check: str, args: dict[str, Any], cut: str, quiet: str
) -> None:
    def story() -> Story:
        return clean().send("t3").takes("a", "t3").starts("a", "t3").at(9)

    ended_early = story().harness("error", error="wait: nothing after 30 s").harness("end")
    assert outcome_of(judge(ended_early.history(), plan(expected(check, **args))), check) == cut
    fell_quiet = story().fails("a", "t3").acks("a", "t3").ends()
    assert outcome_of(judge(fell_quiet.history(), plan(expected(check, **args))), check) == quiet
