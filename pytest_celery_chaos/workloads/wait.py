"""Waiting for moments, and healing at a chosen place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.values import (
    BeatRef,
    ClientRef,
    Duration,
    EventRef,
    FaultRef,
    LinkRef,
    PointRef,
    TaskRef,
    WorkerRef,
)

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def wait(
    run: Run,
    *,
    at: EventRef | None = None,
    before: PointRef | None = None,
    after: PointRef | Duration | None = None,
    healed: FaultRef | None = None,
    polling: WorkerRef | None = None,
    task: TaskRef | None = None,
    worker: WorkerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    link: LinkRef | None = None,
    nth: int = 1,
    timeout: Duration = 30.0,
) -> None:
    """Wait until a moment has come; one that is in the history already will do. Nobody is held at it.

    :param at: an event of the history. Exactly one of *at*, *before*, *after*, *healed* and *polling*.
    :param before: a point of the protocol that has been reached.
    :param after: a point that has been passed; or a duration, and then this step takes so long.
    :param healed: the fault of the step of this name has healed by itself (its ``for`` is over); ``all``: every such.
    :param polling: this worker waits for messages (BRPOP): what it was given before it has handed to its pool. One that
        has as many messages as it may prefetch does not.
    :param task: only for this task.
    :param worker: only in this worker.
    :param client: only in this client.
    :param beat: only in this beat.
    :param link: a command on this link, of those that something is armed for, or that `timeline` writes down.
    :param nth: the n-th such event, counted from the beginning of the run.
    :param timeout: seconds; after them the run is inconclusive.
    """
    if isinstance(after, float):
        run.let_pass(after)
        return
    if healed is not None:
        run.in_force.wait_healed(None if healed == "all" else healed, timeout)
        return
    if polling is not None:
        run.wait_polling(polling, timeout)
        return
    process = {"worker": worker, "client": client, "beat": beat, "link": link}
    run.wait_for(at=at, before=before, after=after, task=task, **process, nth=nth, timeout=timeout)


def heal(run: Run, *, what: FaultRef = "all") -> None:
    """Heal the fault of the step called *what*, or ``all`` of them, the newest first.

    :param what: the name of the step, or ``all``.
    """
    run.heal(None if what == "all" else what)
