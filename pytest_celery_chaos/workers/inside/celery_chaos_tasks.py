"""The built-in application: tasks to break things around, for any Celery from 5.3 on. It imports nothing of ours.

Its broker is nobody's: every address is laid over by the environment that it runs in.
"""

import os
import signal
import time
from typing import Any

from celery import Celery
from celery.exceptions import Reject

app = Celery("celery_chaos_tasks", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")

if os.environ.get("CELERY_CHAOS_STATEDB"):  # `statedb: redis`; an application of the user's does this itself
    from celery_redis_statedb import install_redis_statedb

    install_redis_statedb(app)


def _append(line: str) -> None:
    # One write(2) to a file opened O_APPEND: evidence of an execution that no broker and no recorder took part in.
    path = os.environ.get("CELERY_CHAOS_COUNTER")
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (line + "\n").encode())
        finally:
            os.close(handle)


@app.task(name="add")
def add(x: float = 1, y: float = 1) -> float:
    """The sum of x and y."""
    return x + y


@app.task(name="sleep")
def sleep(seconds: float = 1.0) -> float:
    """Take so many seconds."""
    time.sleep(seconds)
    return seconds


@app.task(name="count", bind=True)
def count(self: Any) -> None:
    """Leave one line in a file outside Redis for every real execution."""
    _append(f"{self.request.id} {os.getpid()}")


@app.task(name="fail")
def fail(message: str = "told to fail") -> None:
    """Raise RuntimeError."""
    raise RuntimeError(message)


@app.task(name="reject", bind=True, acks_late=True)
def reject(self: Any, requeue: bool = True, times: int | None = None) -> bool:
    """Reject the message, with requeue or for good; with *times* 1 a redelivered one is let pass.

    Late acknowledged, since only what has not been acknowledged can be rejected.
    """
    if times is not None and self.request.delivery_info.get("redelivered"):
        return True
    raise Reject("told to reject", requeue=requeue)


@app.task(name="retry", bind=True)
def retry(self: Any, times: int = 1, countdown: float = 0.0) -> int:
    """Retry so many times, then succeed."""
    if self.request.retries < times:
        raise self.retry(countdown=countdown, max_retries=times)
    return int(self.request.retries)


@app.task(name="echo")
def echo(value: Any = None, seconds: float = 0.0) -> Any:
    """Return the value, after so many seconds."""
    if seconds:
        time.sleep(seconds)
    return value


@app.task(name="collect")
def collect(results: Any = None) -> Any:
    """Return what it is given: the body of a chord, which is given the list of its parts' results."""
    return results


@app.task(name="flaky", bind=True, autoretry_for=(ConnectionError,), retry_backoff=True, retry_jitter=False)
def flaky(self: Any, failures: int = 1) -> int:
    """Raise so many times, then succeed: Celery retries it by itself after 1, 2, 4 … s (three times at most)."""
    if self.request.retries < failures:
        raise ConnectionError(f"attempt {self.request.retries}")
    return int(self.request.retries)


@app.task(name="once", bind=True)
def once(self: Any, how: str = "exists", key: str | None = None, seconds: float = 0.0) -> bool:
    """Have its effect at most once for a key, as far as a key in Redis can see to that. True if it was had now.

    The effect is that the task ``count`` is sent, under an id that is the key's.

    :param how: ``exists``: EXISTS, then SET with EX; ``nx``: one SET with NX and EX.
    :param key: the idempotency key; by default the task's id, which a message that comes again bears again.
    :param seconds: what it takes between the key and the effect.
    """
    client, name = app.backend.client, f"idempotency-{key or self.request.id}"
    if how == "exists" and client.exists(name):
        return False
    # Between the two commands of `exists`, and before the one of `nx`: a moment at which the task can be held.
    self.update_state(state="CHECKED")
    if how == "exists":
        client.set(name, "1", ex=3600)
    elif not client.set(name, "1", ex=3600, nx=True):
        return False
    time.sleep(seconds)
    app.send_task("count", task_id=name)
    return True


@app.task(name="replace", bind=True)
def replace(self: Any, value: Any = None, seconds: float = 0.0) -> Any:
    """Have ``echo`` run in its place (``self.replace``)."""
    raise self.replace(app.signature("echo", (value, seconds)))


@app.task(name="blob")
def blob(size: int = 1000) -> str:
    """Return so many bytes."""
    return "x" * size


@app.task(name="kill_worker")
def kill_worker(signal_name: str = "KILL", target: str = "child") -> None:
    """Send a signal to the process that runs the task (child), or to the worker's main process (main)."""
    pid = os.getppid() if target == "main" else os.getpid()
    os.kill(pid, getattr(signal, "SIG" + signal_name))
    time.sleep(60)
