"""Faults of data: keys of Celery and kombu deleted, given an expiry, overwritten, flushed.

What is deleted or has expired stays so: no heal brings it back, as none does in a real outage. Where nothing was
there to be broken the step fails, since a fault that did nothing must not count as applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.roles import RoleName
from pytest_celery_chaos.errors import FaultWithoutEffect
from pytest_celery_chaos.faults.garbage import clear, garble, retype
from pytest_celery_chaos.faults.keys import Chosen, PartName, choose, each
from pytest_celery_chaos.values import AppRef, BrokerRef, Duration, TaskRef, WorkerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def delete(
    run: Run,
    *,
    role: RoleName,
    task: TaskRef | None = None,
    queue: str | None = None,
    exchange: str | None = None,
    worker: WorkerRef | None = None,
    app: AppRef | None = None,
    part: PartName | None = None,
) -> None:
    """Delete keys of Celery's by what they are to it (DEL): what an eviction, an expiry or an operator does.

    Nothing heals it: what is gone is gone. Of a key that holds many tasks' messages (``queue``, ``unacked``,
    ``unacked_index``) a *task* means its entries alone.

    :param role: ``queue``, ``unacked``, ``unacked_index``, ``unacked_mutex``, ``binding`` (of an exchange),
        ``binding_permanent`` and ``binding_deadlines`` (kombu 5.7), ``reply`` (a remote-control command's replies),
        ``result``, ``group`` (a saved one), ``chord`` (its parts), ``statedb`` (a worker's revoked ids in Redis).
    :param task: only what is of this task; of a group's or chord's label, what is of the whole group.
    :param queue: only this queue.
    :param exchange: only this exchange.
    :param worker: only this worker's state.
    :param app: only this application's keys; default: every one's.
    :param part: of a ``chord`` only the results (``j``), difference to the size (``t``), size (``s``), counted ids
        (``d``) or claim (``c``).
    :raises FaultWithoutEffect: there is no such key.
    """
    chosen = choose(run, role, task=task, queue=queue, exchange=exchange, worker=worker, app=app, part=part)
    _done(run, "deleted", chosen, each(chosen, _delete))


def expire(
    run: Run,
    *,
    role: RoleName,
    ttl: Duration = 0.001,
    task: TaskRef | None = None,
    queue: str | None = None,
    exchange: str | None = None,
    worker: WorkerRef | None = None,
    app: AppRef | None = None,
    part: PartName | None = None,
) -> Heal | None:
    """Let keys of Celery's expire (PEXPIRE). Heals by giving those that are still there the expiry that they had.

    :param role: as in ``delete``.
    :param ttl: seconds until they expire; at least a millisecond.
    :param task: as in ``delete``; of a ``result``, ``group`` or ``chord``.
    :param queue: only this queue.
    :param exchange: only this exchange.
    :param worker: only this worker's state.
    :param app: only this application's keys; default: every one's.
    :param part: of a ``chord``, as in ``delete``.
    :raises FaultWithoutEffect: there is no such key.
    """
    chosen = choose(run, role, queue=queue, exchange=exchange, worker=worker, app=app, part=part, task=task)
    with answering():
        before = [(one, _number(one.client.pttl(one.key))) for one in chosen if one.entries is None]
    _done(run, "expiring", chosen, each(chosen, lambda one: _expire(one, ttl)))

    def heal() -> None:
        for one, left in before:
            if left == -1:
                one.client.persist(one.key)
            elif left > 0:
                one.client.pexpire(one.key, left)

    return heal


def overwrite(
    run: Run,
    *,
    role: RoleName,
    by: Literal["garbage", "another_type"] = "garbage",
    task: TaskRef | None = None,
    queue: str | None = None,
    exchange: str | None = None,
    worker: WorkerRef | None = None,
    app: AppRef | None = None,
    part: PartName | None = None,
) -> Heal | None:
    """Write garbage over keys of Celery's, as another application on the same server may. Expiries stay.

    Heals by deleting what is still that garbage; what was there before does not come back.

    :param role: as in ``delete``.
    :param by: ``garbage`` keeps the key's type and replaces every value in it by bytes that nobody can read;
        ``another_type`` makes it a string (or a list, where it was one), so that commands answer WRONGTYPE.
    :param task: as in ``delete``.
    :param queue: only this queue.
    :param exchange: only this exchange.
    :param worker: only this worker's state.
    :param app: only this application's keys; default: every one's.
    :param part: of a ``chord``, as in ``delete``.
    :raises FaultWithoutEffect: there is no such key.
    """
    chosen = choose(run, role, task=task, queue=queue, exchange=exchange, worker=worker, app=app, part=part)
    act = garble if by == "garbage" else retype
    _done(run, "overwritten", chosen, each(chosen, act))
    return lambda: clear(chosen)


def flush(run: Run, *, broker: BrokerRef = "main", db: int | None = None) -> None:
    """Empty a server (FLUSHALL), or one of its databases (FLUSHDB). Nothing heals it.

    :param broker: the server, by name.
    :param db: only this database.
    :raises FaultWithoutEffect: it was empty.
    """
    client: Any = run.redis(broker, db or 0)
    with answering():
        keys = {name: fields["keys"] for name, fields in client.info("keyspace").items()}
        lost = sum(keys.values()) if db is None else keys.get(f"db{db}", 0)
        if not lost:
            raise FaultWithoutEffect(
                f"{'the server' if db is None else f'database {db}'} is empty: nothing to flush",
                where=run.step.place,
                hint="wait until something has been published, or name another database",
            )
        if db is None:
            client.flushall()
        else:
            client.flushdb()
    run.tell(keys=lost)


def _done(run: Run, what: str, chosen: list[Chosen], count: int) -> None:
    """Write down what was hit; a fault that came too late has hit nothing."""
    if not count:
        raise FaultWithoutEffect(
            f"none was {what}: {', '.join(one.name for one in chosen[:3])} had gone meanwhile",
            where=run.step.place,
            hint="strike at a moment (`when:`), while the process that would take it away is held",
        )
    run.tell(keys=[one.name for one in chosen[:20]], count=count)


def _delete(one: Chosen) -> int:
    if one.entries is None:
        return _number(one.client.delete(one.key))
    if one.what.role == "queue":
        return sum(_number(one.client.lrem(one.key, 1, entry)) for entry in one.entries)
    if one.what.role == "unacked":
        return _number(one.client.hdel(one.key, *one.entries))
    return _number(one.client.zrem(one.key, *one.entries))


def _expire(one: Chosen, ttl: float) -> int:
    return _number(one.client.pexpire(one.key, max(1, round(ttl * 1000))))


def _number(answer: Any) -> int:
    return int(answer)
