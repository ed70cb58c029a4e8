"""Faults of memory: keys are evicted by real pressure, or the limit is reached and writes are refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.roles import RoleName, text
from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.faults.filler import FILLER_DB, ROOM, Pressure
from pytest_celery_chaos.faults.keys import Chosen, choose
from pytest_celery_chaos.values import AppRef, BrokerRef, Count, Duration, TaskRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def evict(
    run: Run,
    *,
    role: RoleName | None = None,
    task: TaskRef | None = None,
    queue: str | None = None,
    exchange: str | None = None,
    app: AppRef | None = None,
    keys: Count | None = None,
    broker: BrokerRef = "main",
    timeout: Duration = 20.0,
) -> None:
    """Let the server evict keys by its own ``maxmemory-policy``: fill its memory until the keys meant are gone.

    It fills with keys of its own, in a database of its own, and takes them back at once: nothing is evicted
    afterwards, and nothing heals what was. A server without ``maxmemory`` gets a limit for so long. What else has
    been evicted beside is in the history.

    :param role: of the keys that must go, as in ``delete``; none: any *keys* keys.
    :param task: only what is of this task (of a ``result``, ``group`` or ``chord``).
    :param queue: only this queue.
    :param exchange: only this exchange.
    :param app: only this application's keys.
    :param keys: how many keys of applications must go, where no *role* is given; default: one.
    :param broker: the server, by name.
    :param timeout: seconds.
    :raises UsageError: the policy is ``noeviction``, or both *role* and *keys* are given.
    :raises FaultWithoutEffect: they are still there when the server refuses to take more, or the time is over.
    """
    if role is not None and keys is not None:
        raise UsageError("evict takes a role or a count of keys, not both", where=run.step.place, hint="leave one out")
    if run.broker(broker).spec.maxmemory_policy in (None, "noeviction"):
        raise UsageError(
            f"broker {broker!r} evicts nothing: its maxmemory-policy is noeviction",
            where=run.step.place,
            hint="give the broker a `maxmemory_policy`, or use `fill` to have writes refused",
        )
    wanted = None if role is None else choose(run, role, task=task, queue=queue, exchange=exchange, app=app)
    with answering():
        before = _stored(run, broker)
        pressure = Pressure(run.redis(broker, FILLER_DB))
        evicted = pressure.evicted
        try:
            pressure.bring_near()
            _press(run, pressure, broker, wanted, keys or 1, before, timeout)
        finally:
            pressure.relieve()
        gone, count = sorted(before - _stored(run, broker)), pressure.evicted - evicted
    run.tell(keys=gone[:20], evicted=count, policy=pressure.policy)


def _press(
    run: Run,
    pressure: Pressure,
    broker: str,
    wanted: list[Chosen] | None,
    count: int,
    before: set[str],
    timeout: float,
) -> None:
    """Fill until what is wanted is gone."""
    deadline = time.monotonic() + timeout
    for refused in pressure.fill():
        if wanted is not None:
            left = [one for one in wanted if one.client.exists(one.key)]
            if not left:
                return
        else:
            gone = before - _stored(run, broker)
            if len(gone) >= count:
                return
        if refused or time.monotonic() > deadline:
            names = ", ".join(one.name for one in left[:3]) if wanted is not None else f"{len(gone)} of {count} keys"
            why = "the server refuses to take more (OOM)" if refused else f"after {timeout:g} s"
            raise FaultWithoutEffect(
                f"not evicted under {pressure.policy}: {names}; {why}",
                where=run.step.place,
                hint="volatile-* policies evict only keys that have an expiry: choose another policy or another role",
            )
    raise AssertionError("fillers are written without end")


def fill(run: Run, *, broker: BrokerRef = "main") -> Heal:
    """Fill the server's memory to its limit, so that writes are answered OOM. Heals by taking the filling back.

    Commands that need no memory (BRPOP, reads, PUBLISH) go on: a worker can take a message and not write down that
    it has it. A server without ``maxmemory`` gets a limit for so long.

    :param broker: the server, by name.
    :raises FaultWithoutEffect: it evicts keys instead of refusing writes: its policy is not ``noeviction``.
    """
    with answering():
        pressure = Pressure(run.redis(broker, FILLER_DB))
        evicted = pressure.evicted
        try:
            pressure.bring_near()
            for refused in pressure.fill():
                if refused or pressure.evicted > evicted:
                    break
            if refused:
                # Well above the limit: what a connection's end gives back must not make room for a write.
                pressure.limit(pressure.used - ROOM // 2)
            if not refused or not pressure.refuses():
                raise FaultWithoutEffect(
                    f"broker {broker!r} takes writes when it is full: its policy is {pressure.policy}",
                    where=run.step.place,
                    hint="let its `maxmemory_policy` be noeviction, or use `evict`",
                )
        except BaseException:
            pressure.relieve()
            raise
        run.tell(used_memory=pressure.used)

    def heal() -> None:
        with answering():
            pressure.relieve()

    return heal


def _stored(run: Run, broker: str) -> set[str]:
    """The names of all keys that applications have on a server, each behind the number of its database."""
    places = {place[:2] for space in run.keyspaces() for place in (space.messages, space.results)}
    return {
        f"{db}:{text(key)}"
        for server, db in places
        if server == broker
        for key in run.redis(server, db).scan_iter(count=1000)
    }
