"""`state_keys`: revoked state in Redis has the keys that are expected, and they live as long."""

from __future__ import annotations

from pytest_celery_chaos.checks.state import state_keys

from .story import Story

KEYS = ["celery:worker:state:a@chaos:zrevoked", "celery:worker:state:a@chaos:clock"]


def kept(**states: float) -> Story:
    story = Story().begins("a").keeps("a", "revoked_loaded", ids=[]).ready("a", knows=())
    names = {"zrevoked": KEYS[0], "clock": KEYS[1], "other": "other:zrevoked"}
    return story.looks(states={names[name]: left for name, left in states.items()}).ends()


def test_the_keys_that_are_expected_hold() -> None:
    finding = state_keys(kept(zrevoked=-1, clock=-1).history(), keys=KEYS)
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert state_keys(kept(zrevoked=7100.5, clock=7200).history(), keys=KEYS, ttl=7200).outcome == "holds"


def test_a_missing_key_and_one_of_another_name_violate() -> None:
    finding = state_keys(kept(clock=-1, other=-1).history(), keys=KEYS)
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert f"{KEYS[0]} is missing, other:zrevoked is there" in finding.why


def test_a_key_that_expires_and_one_that_does_not_violate() -> None:
    assert state_keys(kept(zrevoked=10, clock=-1).history(), keys=KEYS).seen == 1
    assert state_keys(kept(zrevoked=10, clock=-1).history(), keys=KEYS, ttl=7200).seen == 1


def test_a_key_that_lives_longer_than_it_should_violates() -> None:
    assert state_keys(kept(zrevoked=7201, clock=7201).history(), keys=KEYS, ttl=7200).seen == 2


def test_nobody_looked_or_nothing_was_kept() -> None:
    assert state_keys(Story().worker("a").ends().history(), keys=KEYS).outcome == "inconclusive"
    assert state_keys(Story().worker("a").looks(states={}).ends().history(), keys=KEYS).outcome == "inconclusive"
