"""Revoked state that is kept in Redis (celery-redis-statedb): which keys it has, and how long they live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration


def state_keys(history: History, *, keys: Sequence[str], ttl: Duration | None = None) -> Finding:
    """The keys of revoked state in Redis must be exactly these, and live as long as is said.

    Judged by the last look at the database of ``statedb: redis``, by plain reads of key names and TTL.

    *seen*: how many keys are missing, how many are there beside them, and how many live too long or too short, in
    all. Inconclusive where no worker keeps state in Redis, or nobody looked.

    :param keys: their full names.
    :param ttl: they must expire, within so long; None: they must not expire.
    """
    look = next((e for e in reversed(history.of("snapshot")) if isinstance(e.attrs.get("states"), Mapping)), None)
    if look is None:
        return view.inconclusive("nobody looked at state in Redis: no worker has `statedb: redis`")
    if not any(e.attrs.get("store") == "redis" for e in history.of("revoked_loaded")) and not look.attrs["states"]:
        return view.inconclusive("no worker has read or written state in Redis")
    found: Mapping[str, float] = look.attrs["states"]
    wrong = [f"{key} is missing" for key in sorted(set(keys) - found.keys())]
    wrong += [f"{key} is there" for key in sorted(found.keys() - set(keys))]
    wrong += [f"{key} {_lives(found[key])}" for key in sorted(found.keys() & set(keys)) if not _right(found[key], ttl)]
    if wrong:
        return _violated(history, look, wrong)
    lives = f"expire within {ttl:g} s" if ttl is not None else "do not expire"
    return Finding("holds", f"{', '.join(sorted(found))} {lives}", 0, (look,))


def _violated(history: History, look: Event, wrong: Sequence[str]) -> Finding:
    return Finding("violated", f"at {view.at(history, look)}: {', '.join(wrong)}", len(wrong), (look,))


def _right(seconds: float, ttl: float | None) -> bool:
    return seconds < 0 if ttl is None else 0 <= seconds <= ttl


def _lives(seconds: float) -> str:
    return "does not expire" if seconds < 0 else f"expires in {seconds:g} s"
