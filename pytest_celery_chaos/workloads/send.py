"""Publishing: what a client asks Celery to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.errors import WaitExpired
from pytest_celery_chaos.values import ClientRef, Duration, TaskName

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def send(
    run: Run,
    *,
    task: TaskName,
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    times: int = 1,
    rate: float | None = None,
    countdown: Duration | None = None,
    expires: Duration | None = None,
    queue: str | None = None,
    exchange: str | None = None,
    routing_key: str | None = None,
    priority: int | None = None,
    serializer: str | None = None,
    compression: str | None = None,
    headers: dict[str, Any] | None = None,
    time_limit: Duration | None = None,
    soft_time_limit: Duration | None = None,
    ignore_result: bool | None = None,
    retry: bool | None = None,
    retry_policy: dict[str, Any] | None = None,
    stamps: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    client: ClientRef | None = None,
    timeout: Duration = 30.0,
) -> None:
    """Publish a task with ``apply_async``. The step's name stands for its ids in every later step and check.

    A publish that fails, or whose outcome nobody knows, does not fail the step: it is in the history.

    :param task: the task's name; the app's, or a built-in one (sleep, echo, add, count, fail, retry, flaky, once …).
    :param args: the task's positional arguments.
    :param kwargs: the task's keyword arguments.
    :param times: how many messages.
    :param rate: at most so many a second.
    :param countdown: seconds until it may run (``eta``).
    :param expires: seconds after which a worker discards it.
    :param queue: the queue, instead of where the task is routed.
    :param exchange: the exchange, by name.
    :param routing_key: the routing key.
    :param priority: 0 to 9; on Redis 0 is consumed first.
    :param serializer: json, pickle, yaml, msgpack.
    :param compression: zlib, bzip2 …
    :param headers: further headers of the message.
    :param time_limit: seconds after which the pool process that runs it is killed.
    :param soft_time_limit: seconds after which SoftTimeLimitExceeded is raised in it.
    :param ignore_result: whether its result is not stored.
    :param retry: whether the publish itself is tried again (``retry_policy`` says how).
    :param retry_policy: ``max_retries``, ``interval_start``, ``interval_step``, ``interval_max`` of the publish.
    :param stamps: headers by which it can be revoked (``stamped_headers``): each a value or a list of them.
    :param options: any further option of ``apply_async``.
    :param client: who publishes; by default the first.
    :param timeout: seconds; a publish that blocks longer is left to itself, its outcome unknown.
    """
    given = {
        "countdown": countdown,
        "expires": expires,
        "queue": queue,
        "exchange": exchange,
        "routing_key": routing_key,
        "priority": priority,
        "serializer": serializer,
        "compression": compression,
        "headers": headers,
        "time_limit": time_limit,
        "soft_time_limit": soft_time_limit,
        "ignore_result": ignore_result,
        "retry": retry,
        "retry_policy": retry_policy,
    }
    chosen = {**{name: value for name, value in given.items() if value is not None}, **(options or {})}
    if stamps:
        chosen |= {"stamped_headers": list(stamps), **stamps}
    label = run.step.name or f"send-{run.step.index}"
    order = {
        "task": task,
        "args": args or [],
        "kwargs": kwargs or {},
        "options": chosen,
        "prefix": run.declare(label, task, times),
        "times": times,
        "rate": rate,
    }
    try:
        run.client_of(client).order("send", order, timeout=timeout + (times / rate if rate else 0.0))
    except WaitExpired:
        # The publish blocks: what that means is for the checks to say, from its open invocation in the history.
        return
