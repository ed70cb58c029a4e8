"""Remote control: any command of Celery's, to all workers or to some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.errors import WaitExpired
from pytest_celery_chaos.values import ClientRef, Duration, WorkerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run

#: Seconds beyond the time-out of the command itself after which the client counts as blocked.
_PATIENCE = 5.0


def control(
    run: Run,
    *,
    command: str,
    args: dict[str, Any] | None = None,
    workers: Sequence[WorkerRef] = (),
    replies: int | None = None,
    timeout: Duration = 5.0,
    client: ClientRef | None = None,
) -> object:
    """Broadcast a remote-control command and wait for the replies, which go to the history (event ``control``).

    :param command: its name: ping, stats, active, reserved, revoked, rate_limit, add_consumer, cancel_consumer,
        pool_restart, shutdown …
    :param args: its arguments, by name.
    :param workers: to these workers only; by default to all.
    :param replies: so many are waited for; by default one of each worker that is asked and lives. 0: none is wanted.
    :param timeout: seconds until no more replies are waited for.
    :param client: who asks; by default the first.
    :returns: the replies by node name; fewer, or none, where they did not come in time.
    """
    asker = run.client_of(client)
    asked = [run.worker(name) for name in workers] or [
        worker for worker in run.environment.workers.values() if worker.spec.app == asker.spec.app
    ]
    living = [worker for worker in asked if worker.alive]
    limit = len(living) if replies is None else replies
    nodes = [worker.hostname for worker in asked] if workers else None
    order = {"command": command, "args": args or {}, "nodes": nodes, "limit": limit, "timeout": timeout}
    try:
        return asker.order("control", order, timeout=timeout + _PATIENCE).get("replies", {})
    except WaitExpired:
        return {}
