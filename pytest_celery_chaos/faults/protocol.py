"""Faults of the protocol's order: a process waits at a point while others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def hold(run: Run) -> Heal | None:
    """Keep the process that reaches the step's moment waiting there until the step is healed.

    It waits with everything in its hands: before ``ack`` it has stored the result and its message is unacked. A
    hold that nobody heals within the moment's ``timeout`` (30 s) lets go by itself, and the run is inconclusive.

    :raises UsageError: the step has no ``when``.
    """
    return run.keep_holding()
