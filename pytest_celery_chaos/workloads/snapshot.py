"""A look at the broker's keys, for the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def snapshot(run: Run) -> dict[str, object]:
    """Write down what lies in queues, ``unacked``, its index, the mutex and the results, by plain Redis reads.

    :returns: what was seen.
    """
    return run.look(run.step.name)
