"""Time that passes at once: what waits for a clock is made older, instead of waiting with it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.errors import FaultWithoutEffect
from pytest_celery_chaos.faults.keys import Chosen, PartName, choose
from pytest_celery_chaos.values import AppRef, Duration, TaskRef, WorkerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run

#: Seconds that the client has for the work that needs Celery itself.
_WITHIN: Final = 20.0


def age(
    run: Run,
    *,
    by: Duration,
    role: Literal["unacked_index", "unacked_mutex", "result", "group", "chord", "reply", "statedb"] = "unacked_index",
    task: TaskRef | None = None,
    worker: WorkerRef | None = None,
    app: AppRef | None = None,
    part: PartName | None = None,
) -> None:
    """Make something older that Celery keeps in Redis, so that an hour passes without waiting. Nothing heals it.

    A message's age is its score in ``unacked_index``: once that is older than the visibility timeout, the next sweep
    of any worker delivers the message again. The mutex of a sweep, results, groups, chords and replies have an
    expiry, of which the time is taken off; what has none left expires now. Revoked ids that a worker keeps in Redis
    (``statedb: redis``) have the time of their revoke in them; a worker reads them when it starts.

    :param by: seconds.
    :param role: as in ``delete``; by default unacknowledged messages.
    :param task: only what is of this task: the message, the result.
    :param worker: of ``statedb``: only this worker's.
    :param app: only this application's keys.
    :param part: of a ``chord``, as in ``delete``.
    :raises FaultWithoutEffect: there is no such key, or it never expires.
    """
    chosen = choose(run, role, task=task, worker=worker, app=app, part=part)
    with answering():
        if role == "unacked_index":
            aged = [one for one in chosen if _lower(one, by)]
        elif role == "statedb":
            aged = [one for one in chosen if one.what.part == "zrevoked" and _rewrite(run, one, by)]
        else:
            aged = [one for one in chosen if _shorten(one, by)]
    if not aged:
        raise FaultWithoutEffect(
            f"nothing to make older: {', '.join(one.name for one in chosen[:3])} does not expire",
            where=run.step.place,
            hint="only what Celery gives an expiry, or a time, has an age",
        )
    run.tell(keys=[one.name for one in aged[:20]], count=sum(len(one.entries or "1") for one in aged))


def _lower(one: Chosen, by: float) -> bool:
    """Take time off the scores; what has been acknowledged meanwhile does not come back (XX)."""
    members = one.entries or one.client.zrange(one.key, 0, -1)
    pipe = one.client.pipeline(transaction=True)
    for member in members:
        pipe.zadd(one.key, {member: -by}, xx=True, incr=True)
    one.entries = [member for member, score in zip(members, pipe.execute(), strict=True) if score is not None]
    return bool(one.entries)


def _shorten(one: Chosen, by: float) -> bool:
    left = int(one.client.pttl(one.key))
    return left >= 0 and bool(one.client.pexpire(one.key, max(1, left - round(by * 1000))))


def _rewrite(run: Run, one: Chosen, by: float) -> bool:
    """Revoked ids are a pickle of a class of Celery's: it is read and written where Celery is, in a client."""
    data: Any = one.client.get(one.key)
    answer = run.client_of().order("age_revoked", {"data": base64.b64encode(data).decode(), "by": by}, timeout=_WITHIN)
    left = int(one.client.pttl(one.key))
    return bool(answer["count"]) and bool(
        one.client.set(one.key, base64.b64decode(answer["data"]), px=left if left > 0 else None, xx=True)
    )
