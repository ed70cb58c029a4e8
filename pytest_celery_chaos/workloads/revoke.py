"""Revoking tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import Duration, SignalName, TaskRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def revoke(
    run: Run, *, task: TaskRef, terminate: bool = False, signal: SignalName = "TERM", timeout: Duration = 10.0
) -> None:
    """Broadcast ``revoke`` for every id that *task* stands for (``app.control.revoke``).

    It returns when the command has been published, not when workers know it: wait for ``at: revoke`` of a worker.

    :param task: what is revoked: every message that it stands for.
    :param terminate: end the task if it runs, with *signal*.
    :param signal: sent to the pool process that runs it.
    :param timeout: seconds.
    :raises UsageError: nothing of that name has been published yet.
    """
    ids = run.ids_of(task)
    if not ids:
        raise UsageError(f"nothing called {task!r} has been published yet", where=run.step.place)
    order = {"ids": list(ids), "terminate": terminate, "signal": f"SIG{signal.upper().removeprefix('SIG')}"}
    run.client_of().order("revoke", order, timeout=timeout)
