"""Reading results as users do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.errors import UsageError, WaitExpired
from pytest_celery_chaos.values import Duration, TaskRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run

#: Seconds beyond the time-out of `get` itself after which the client counts as blocked.
_PATIENCE = 5.0


def get(run: Run, *, task: TaskRef, timeout: Duration = 10.0) -> object:
    """Wait for the result with ``AsyncResult.get(timeout=…)`` in the client; what it raises goes to the history.

    :param task: exactly one message.
    :param timeout: seconds.
    :returns: the value, or None where the result is an error or did not come.
    :raises UsageError: *task* stands for no message, or for several.
    """
    ids = run.ids_of(task)
    if len(ids) != 1:
        raise UsageError(f"{task!r} stands for {len(ids)} messages; get needs one", where=run.step.place)
    try:
        return (
            run.client_of().order("get", {"id": ids[0], "timeout": timeout}, timeout=timeout + _PATIENCE).get("value")
        )
    except WaitExpired:
        return None
