"""Revoking tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import ClientRef, Duration, SignalName, TaskRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def revoke(
    run: Run,
    *,
    task: TaskRef | None = None,
    stamps: dict[str, Any] | None = None,
    terminate: bool = False,
    signal: SignalName = "TERM",
    client: ClientRef | None = None,
    timeout: Duration = 10.0,
) -> None:
    """Broadcast ``revoke`` for every id that *task* stands for, or ``revoke_by_stamped_headers`` (``app.control``).

    It returns when the command has been published, not when workers know it: wait for ``at: revoke`` of a worker.

    :param task: what is revoked: every message that it stands for. Exactly one of *task* and *stamps*.
    :param stamps: by header, the value or values of it; revoked is whatever was stamped so (``send``'s *stamps*).
    :param terminate: end the task if it runs, with *signal*.
    :param signal: sent to the pool process that runs it.
    :param client: who sends it; by default the first.
    :param timeout: seconds.
    :raises UsageError: nothing of that name has been published yet.
    """
    if (task is None) == (stamps is None):
        raise UsageError("revoke needs exactly one of task and stamps", where=run.step.place)
    ids = run.ids_of(task) if task is not None else []
    if task is not None and not ids:
        raise UsageError(f"nothing called {task!r} has been published yet", where=run.step.place)
    name = f"SIG{signal.upper().removeprefix('SIG')}"
    order = {"ids": list(ids), "stamps": stamps, "terminate": terminate, "signal": name}
    run.client_of(client).order("revoke", order, timeout=timeout)
