"""The user's own application in the test process, bound to the test's broker for the length of one test.

Their ``task.delay()`` reaches the chaos broker and is recorded. What the application keeps of its own broker and
backend (pools, the cached backend) is put aside and given back, so that after the test it points where it pointed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_celery_chaos.errors import ForeignBroker, UsageError, redact
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import in_process, overlay
from pytest_celery_chaos.workers.recorded import by_valkey

#: What an application caches of its broker and backend, over Celery 5.3 to 5.7: attribute of the app, or of a part.
_CACHED = ("_pool", "_backend_cache")
_OF_AMQP = ("_producer_pool",)
_MISSING = object()


class Rebound:
    """Binds *target* between ``__enter__`` and ``__exit__``.

    :param target: as ``celery -A`` takes it.
    :param settings: the addresses of the test's broker and backend, and whatever else is laid over.
    :param ledgers: where this process records what it publishes.
    :param control: the folder of the run's moments, so that a publish can be held.
    """

    def __init__(self, target: str, settings: Mapping[str, Any], *, ledgers: Path, control: Path) -> None:
        self._target, self._settings, self._ledgers, self._control = target, settings, ledgers, control
        self._kept: list[tuple[Any, str, Any]] = []
        self._backends: list[Any] = []
        self.app: Any = None

    def __enter__(self) -> Any:
        from celery.app.utils import find_app

        try:
            self.app = find_app(self._target)
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"the application {self._target!r} cannot be imported: {error}",
                hint="name it as `celery -A` takes it, and run pytest where it can be imported",
            ) from error
        if by_valkey(self._settings):
            from pytest_celery_chaos import valkey

            valkey.install()  # it stays: it adds an address, and changes none
        in_process.install(str(self._ledgers), "client:test", str(self._control))
        overlay.lay(self._settings, [self.app])
        self._put_aside()
        self._guard()
        return self.app

    def __exit__(self, *_: object) -> None:
        try:
            self._close_ours()
        finally:
            for holder, name, value in reversed(self._kept):
                if value is _MISSING:
                    holder.__dict__.pop(name, None)
                else:
                    setattr(holder, name, value)
            self._kept.clear()
            in_process.uninstall()

    def _put_aside(self) -> None:
        for name in _CACHED:
            if hasattr(self.app, name):
                self._keep(self.app, name)
                setattr(self.app, name, None)
        for name in _OF_AMQP:
            self._keep(self.app.amqp, name)
            setattr(self.app.amqp, name, None)
        # One backend object a thread: a new holder makes each thread ask for its own again.
        self._keep(self.app, "_local")
        self.app._local = threading.local()
        make = self.app._get_backend

        def made() -> Any:
            self._backends.append(make())
            return self._backends[-1]

        self._keep(self.app, "_get_backend")
        self.app._get_backend = made

    def _close_ours(self) -> None:
        pool = getattr(self.app.amqp, "_producer_pool", None)
        for each in (pool, getattr(self.app, "_pool", None)):
            if each is not None:
                each.force_close_all()
        for backend in self._backends:
            leave_results_alone(backend)
        self._backends.clear()

    def _guard(self) -> None:
        """Refuse every publish, of any application, that would reach another broker."""
        from celery.app.amqp import AMQP

        original = AMQP._create_task_sender
        allowed = _place(self._settings["broker_url"])

        def guarded(amqp: Any) -> Callable[..., Any]:
            send = original(amqp)

            def send_task_message(producer: Any, name: str, message: Any, *args: Any, **kwargs: Any) -> Any:
                connection = producer.connection
                uri = connection.as_uri(include_password=False)
                if _place(uri) != allowed:
                    raise ForeignBroker(
                        f"task {name!r} was about to be published to {redact(uri)}, which is not the test's broker",
                        hint="publish through the application that chaos_app names, on its default connection",
                    )
                return send(producer, name, message, *args, **kwargs)

            return send_task_message

        self._keep(AMQP, "_create_task_sender")
        AMQP._create_task_sender = guarded
        for app in _apps():
            amqp = app.__dict__.get("amqp")
            if amqp is not None and "send_task_message" in amqp.__dict__:
                self._keep(amqp, "send_task_message")
                del amqp.__dict__["send_task_message"]

    def _keep(self, holder: Any, name: str) -> None:
        self._kept.append((holder, name, holder.__dict__.get(name, _MISSING)))


def leave_results_alone(backend: Any) -> None:
    """Have results of *backend* that outlive its server do nothing when they are collected.

    ``AsyncResult.__del__`` unsubscribes from what it had waited for: once the server is gone it would connect anew,
    for as long as the backend retries, and raise in whichever test the garbage collector happens to run.
    """
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        consumer.stop()
        getattr(consumer, "subscribed_to", set()).clear()
    client = vars(backend).get("client")  # made on first use: what was never used has no connection
    if hasattr(client, "connection_pool"):
        client.connection_pool.disconnect()


def _apps() -> list[Any]:
    from celery import _state

    return list(_state._get_active_apps())


def _place(url: str) -> tuple[Any, Any, str]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.port is None:
        return "unix", None, url.partition("?")[0]
    return parts.hostname, parts.port, parts.path.strip("/") or "0"
