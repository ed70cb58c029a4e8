"""When a system is at rest: a message that is in no key may still be in somebody's hands, or on its way to them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_celery_chaos.engine import quiet
from pytest_celery_chaos.engine.quiet import ON_THE_WAY, OpenCopies
from pytest_celery_chaos.history.event import Event, Phase

WORKER = "worker:a"
NOW = 10**12


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still."""
    monkeypatch.setattr(quiet.time, "monotonic_ns", lambda: NOW)


def event(kind: str, phase: Phase | None = None, *, age: float = 0.0, source: str = WORKER, **attrs: object) -> Event:
    """An event of task t1, delivery tag 1, so many seconds ago."""
    tag = {} if kind in ("publish", "settled") else {"tag": "1"}
    return Event(NOW - int(age * 1e9), source, kind, phase, "t1", 7, attrs={**tag, **attrs})


def put(age: float = 0.0) -> list[Event]:
    return [event("publish", phase, age=age, source="client:main") for phase in ("invoke", "ok")]  # type: ignore[arg-type]


POPPED, RECEIVED, SETTLED = event("popped"), event("received"), event("settled")
GONE = event("offline", ended=7)
RESTORED = event("restore", "ok", reason="sweep")
LOST = [*put(), POPPED, RECEIVED, event("connection_lost")]
NOT_THERE = event("restore", "fail", reason="shutdown")
#: The same message at another worker: it keeps its delivery tag.
THERE = SimpleNamespace(
    **{kind: event(kind, source="worker:b") for kind in ("popped", "received", "settled")},
    restored=event("restore", "ok", source="worker:b", reason="shutdown"),
)


@pytest.mark.parametrize(
    "events",
    [
        put()[:1],
        put(),
        [*put(), POPPED],
        [POPPED, *put()],
        [*put(), POPPED, RECEIVED],
        [*put(), POPPED, RECEIVED, GONE, RESTORED],
        [*put(), POPPED, RECEIVED, RESTORED, THERE.popped, THERE.received, THERE.settled],
        [*LOST, event("restore", "unknown", reason="shutdown")],
        [*LOST, RESTORED, POPPED, RECEIVED, RESTORED, THERE.popped, THERE.received, THERE.settled],
    ],
    ids=[
        "publishing",
        "published",
        "popped",
        "popped-before-the-answer",
        "received",
        "restored",
        "swept-while-it-runs",
        "not-yet-swept",
        "swept-and-here-again",
    ],
)
def test_a_message_that_somebody_has_or_is_about_to_get(events: list[Event]) -> None:
    copies = OpenCopies()
    copies.follow(events)
    assert copies.describe()


@pytest.mark.parametrize(
    "events",
    [
        [],
        [*put(), POPPED, event("connection_lost")],
        [*put(), POPPED, RECEIVED, SETTLED],
        [POPPED, RECEIVED, SETTLED, *put()],
        [*put(age=ON_THE_WAY / 1e9 + 0.1)],
        [*put(), POPPED, GONE],
        [GONE, *put(), POPPED],
        # The first copy's acknowledgement is that of the second, whose worker then finds nothing to give back.
        [*put(), THERE.popped, THERE.received, THERE.restored, POPPED, RECEIVED, THERE.settled, LOST[-1], NOT_THERE],
        [*LOST, event("restore", "unknown", reason="shutdown"), RESTORED, THERE.popped, THERE.received, THERE.settled],
    ],
    ids=[
        "nothing",
        "lost-with-the-connection",
        "settled",
        "settled-before-the-answer",
        "lost-long-ago",
        "died-with-it",
        "died-and-read-first",
        "dropped-since-another-copy-was-acknowledged",
        "dropped-and-swept-later",
    ],
)
def test_at_rest(events: list[Event]) -> None:
    copies = OpenCopies()
    copies.follow(events)
    assert copies.describe() == ""
