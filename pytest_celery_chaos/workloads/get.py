"""Reading results as users do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.errors import UsageError, WaitExpired
from pytest_celery_chaos.values import ClientRef, Count, Duration, TaskRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run

#: Seconds beyond the time-out of `get` itself after which the client counts as blocked.
_PATIENCE = 5.0


def get(
    run: Run,
    *,
    task: TaskRef,
    timeout: Duration = 10.0,
    threads: Count = 1,
    returned: bool = False,
    client: ClientRef | None = None,
) -> object:
    """Wait for the result with ``AsyncResult.get(timeout=…)`` in the client; what it raises goes to the history.

    A group is read as a whole (``GroupResult.get``), of a chord or a chain what its last task returns, and several
    messages of one ``send`` one after the other. A reader that never returns is left to itself.

    :param task: whose result.
    :param timeout: seconds for all of it.
    :param threads: so many threads read at once, each all of it.
    :param returned: read a canvas by the very object that publishing it returned, in another thread than it was
        published in; else by one that is made of the ids.
    :param client: who reads; by default the first. It need not be who published.
    :returns: the value, of several messages the list of them; None where it is an error or did not come. Of several
        threads the first one's.
    :raises UsageError: *task* stands for no message.
    """
    awaited = run.awaited.get(task)
    ids = [] if awaited else list(run.ids_of(task))
    if not awaited and not ids:
        raise UsageError(f"nothing called {task!r} has been published yet", where=run.step.place)
    order = {**(awaited or {"group": None, "ids": ids}), "timeout": timeout, "threads": threads, "returned": returned}
    try:
        outcomes = run.client_of(client).order("get", order, timeout=timeout + _PATIENCE).get("outcomes")
    except WaitExpired:
        return None
    values = outcomes[0].get("values") if outcomes else None
    return values[0] if values and len(values) == 1 else values
