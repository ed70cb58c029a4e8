"""Waiting ends at once when there is something, and on expiry says what was seen last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pytest_celery_chaos.errors import WaitExpired
from pytest_celery_chaos.system import wait


@pytest.fixture
def told() -> Iterator[list[tuple[str, float]]]:
    calls: list[tuple[str, float]] = []
    wait.observe(lambda what, left: calls.append((what, left)))
    yield calls
    wait.observe(None)


def test_what_is_there_is_returned_at_once(told: list[tuple[str, float]]) -> None:
    assert wait.until(lambda: "x", what="x", timeout=0) == "x"
    assert told == []


@pytest.mark.parametrize("value", [0, "", [], {}])
def test_an_empty_value_is_a_value(value: object) -> None:
    assert wait.until(lambda: value, what="anything", timeout=0) == value


def test_none_and_false_mean_not_yet() -> None:
    answers = iter([None, False, None, True])
    assert wait.until(lambda: next(answers), what="the fourth", timeout=5) is True


def test_expiry_says_what_was_awaited_for_how_long_and_what_was_seen() -> None:
    begun = time.monotonic()
    with pytest.raises(WaitExpired) as caught:
        wait.until(lambda: None, what="worker a to say ready", timeout=0.05, last=lambda: "hello")
    assert str(caught.value) == "worker a to say ready: nothing after 0.05 s; last seen: hello"
    assert 0.05 <= time.monotonic() - begun < 1


def test_the_last_probe_comes_after_the_deadline() -> None:
    """A probe that takes longer than the whole wait still counts when it finds something the second time."""
    asked: list[float] = []
    begun = time.monotonic()

    def slow() -> bool:
        asked.append(time.monotonic() - begun)
        threading.Event().wait(0.06)
        return len(asked) == 2

    assert wait.until(slow, what="the second", timeout=0.05)


def test_an_error_of_the_probe_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait.until(lambda: 1 / 0, what="nothing", timeout=5)


def test_the_observer_hears_what_is_awaited_and_the_seconds_left(told: list[tuple[str, float]]) -> None:
    with pytest.raises(WaitExpired):
        wait.until(lambda: None, what="quiet", timeout=0.35)
    assert {what for what, _ in told} == {"quiet"}
    seconds = [left for _, left in told]
    assert seconds == sorted(seconds, reverse=True)
    assert 2 <= len(seconds) <= 5
    assert seconds[0] <= 0.35


def test_an_event_is_waited_for_without_polling_and_with_the_same_message(told: list[tuple[str, float]]) -> None:
    event = threading.Event()
    with pytest.raises(WaitExpired, match=r"^the end: nothing after 0.25 s; last seen: a start$"):
        wait.for_event(event, what="the end", timeout=0.25, last=lambda: "a start")
    assert 2 <= len(told) <= 4
    threading.Timer(0.02, event.set).start()
    wait.for_event(event, what="the end", timeout=5)
