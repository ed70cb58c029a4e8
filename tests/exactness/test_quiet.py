"""When a system is at rest: a message that is in no key may still be in somebody's hands, or on its way to them."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "events",
    [
        put()[:1],
        put(),
        [*put(), POPPED],
        [POPPED, *put()],
        [*put(), POPPED, RECEIVED],
        [*put(), POPPED, RECEIVED, GONE, RESTORED],
    ],
    ids=["publishing", "published", "popped", "popped-before-the-answer", "received", "restored"],
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
    ],
    ids=[
        "nothing",
        "lost-with-the-connection",
        "settled",
        "settled-before-the-answer",
        "lost-long-ago",
        "died-with-it",
        "died-and-read-first",
    ],
)
def test_at_rest(events: list[Event]) -> None:
    copies = OpenCopies()
    copies.follow(events)
    assert copies.describe() == ""
