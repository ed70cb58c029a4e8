"""The client process: does to Celery what a user's web application does, and tells nobody but its ledger.

It is a process of its own because a ``delay()`` that blocks for ever, or a result whose ``__del__`` takes 19
seconds, must not hang the harness. It takes orders, one JSON object a line, over a unix socket, each in a thread
of its own; the recorder inside writes down what really happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from typing import Any

from celery import Celery

from pytest_celery_chaos.clients.canvas import Canvas
from pytest_celery_chaos.clients.reading import Results, read


def new_id(prefix: str) -> str:
    """A task id that begins with *prefix* and otherwise looks like Celery's own."""
    return prefix + str(uuid.uuid4())[len(prefix) :]


class Orders:
    """What a client can be told to do. Each returns what the harness wants to know at once."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.results = Results(app)

    def send(
        self,
        task: str,
        args: list[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        prefix: str,
        times: int,
        rate: float | None,
    ) -> dict[str, Any]:
        """Publish *times* messages, at most *rate* a second; a publish that fails does not stop the next."""
        known = self.app.tasks.get(task)
        begin, outcomes = time.monotonic(), {"ok": 0, "error": 0}
        last_error = None
        for number in range(times):
            if rate:
                # Pace, not synchronisation: the n-th message is due n/rate seconds after the first.
                threading.Event().wait(max(0.0, begin + number / rate - time.monotonic()))
            try:
                # By the task object, where the app has it, since its own options (queue, serializer …) count.
                if known is not None:
                    known.apply_async(args, kwargs, task_id=new_id(prefix), **options)
                else:
                    self.app.send_task(task, args, kwargs, task_id=new_id(prefix), **options)
                outcomes["ok"] += 1
            except Exception as error:
                outcomes["error"] += 1
                last_error = f"{type(error).__name__}: {error}"
        return {**outcomes, "last_error": last_error}

    def canvas(self, kind: str, prefix: str, **order: Any) -> dict[str, Any]:
        """Publish a group, a chord, a chain or a map; its result is kept, as users keep it, for :meth:`get`."""
        publish = Canvas(self.app, prefix).ready(kind, order)
        try:
            result = publish()
        except Exception as error:
            return {"last_error": f"{type(error).__name__}: {error}"}
        self.results.keep(result)
        return {}

    def revoke(self, ids: list[str], stamps: dict[str, Any] | None, terminate: bool, signal: str) -> dict[str, Any]:
        """Broadcast ``revoke``, or ``revoke_by_stamped_headers``; nobody answers, workers that hear it record it."""
        if stamps:
            self.app.control.revoke_by_stamped_headers(stamps, terminate=terminate, signal=signal)
        else:
            self.app.control.revoke(ids, terminate=terminate, signal=signal)
        return {}

    def control(
        self, command: str, args: dict[str, Any], nodes: list[str] | None, limit: int, timeout: float
    ) -> dict[str, Any]:
        """Broadcast a command; with a *limit*, wait for so many replies."""
        more: dict[str, Any] = {"reply": True, "timeout": timeout, "limit": limit} if limit else {}
        replies = self.app.control.broadcast(command, arguments=args, destination=nodes, **more)
        return {"replies": {node: reply for each in replies or () for node, reply in each.items()}}

    def age_revoked(self, data: str, by: float) -> dict[str, Any]:
        """Make the revoked ids of a statedb in Redis older."""
        from pytest_celery_chaos.clients.ageing import aged

        return aged(data, by)

    def get(self, group: str | None, ids: list[str], timeout: float, threads: int, returned: bool) -> dict[str, Any]:
        """Wait for results as users do; what was raised is an outcome, not an error."""
        return {
            "outcomes": read(lambda: self.results.of(group, ids, returned=returned), timeout=timeout, threads=threads)
        }


def import_ahead(app: Celery) -> None:
    """Import now what Celery imports at the first publish (transport, result backend: most of its time), unconnected.

    It happens beside the workers' start, so that the first ``send`` of a scenario need not wait for it.
    """
    from celery.app.backends import by_url

    with contextlib.suppress(Exception):  # what is wrong is for the publish to say, in the history
        app.finalize()
        app.connection_for_write().get_transport_cls()
        by_url(app.conf.result_backend or app.backend_cls, app.loader)
        "localhost".encode("idna")  # imports the codec that every connect by a host's name asks for


def serve(path: str, orders: Orders) -> None:
    """Take orders until the harness hangs up."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    lock = threading.Lock()

    def obey(message: dict[str, Any]) -> None:
        try:
            reply: dict[str, Any] = getattr(orders, message["order"])(**message["args"])
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        with lock:
            connection.sendall(json.dumps({"n": message["n"], **reply}, default=repr).encode() + b"\n")

    with connection, connection.makefile("rb") as lines:
        connection.sendall(json.dumps({"ready": os.getpid()}).encode() + b"\n")
        for line in lines:
            threading.Thread(target=obey, args=(json.loads(line),), daemon=True).start()


def main() -> None:
    path, target = sys.argv[1:]
    from celery.app.utils import find_app

    app = find_app(target)
    import_ahead(app)
    serve(path, Orders(app))
    # Results that were never read must not hold up the exit with a dead broker: leave without finalizers.
    os._exit(0)


if __name__ == "__main__":
    main()
