"""A look at the broker's keys, for the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def snapshot(run: Run) -> dict[str, object]:
    """Write down what lies in queues, ``unacked``, its index, the mutex and the results, by plain Redis reads.

    And what else is stored, by role, and who is connected: checks of storage compare with it by the step's name.

    :returns: what was seen.
    """
    run.measure(run.step.name)
    return run.look(run.step.name)
