"""Every publish of a task, in clients and in workers, and what is certain about it.

``ok``: it returned. ``fail``: certainly nothing was sent. ``unknown``: an attempt may have reached the server. A push
counts as sent from the moment at which redis-py or valkey-py hands its bytes to the socket, and as refused once the
server has answered with an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import local
from types import ModuleType
from typing import Any

from .describe import failure, is_redis
from .hooks_chord import dispatched
from .patches import wrap
from .record import emit, in_client

Method = Callable[..., Any]


class _Publish:
    """One publish, over all its attempts."""

    def __init__(self) -> None:
        self.pushing = False
        self.sent = 0  # times that the push in hand was given to a socket: redis-py tries again by itself
        self.pushes = 0
        self.attempts = 0
        self.doubtful = 0
        self.buffered = False

    @property
    def phase(self) -> str:
        """The outcome if the call raises now."""
        if self.pushes:
            return "ok"
        return "unknown" if self.doubtful else "fail"

    def attrs(self) -> dict[str, Any]:
        """What is unusual: several attempts, some of them in doubt; a message that no queue took."""
        found: dict[str, Any] = {}
        if self.attempts > self.pushes:
            found["attempts"] = self.attempts
        if self.doubtful:
            found["doubtful"] = self.doubtful
        if self.buffered:
            found["buffered"] = True
        return found


class _Now(local):
    publish: _Publish | None = None


_now = _Now()
#: Those of all threads that are pushing.
_pushing: list[_Publish] = []


def _create_task_sender(original: Method) -> Method:
    def _create_task_sender(self: Any, *args: Any, **kwargs: Any) -> Method:
        return recorded(original(self, *args, **kwargs))

    return _create_task_sender


def recorded(send: Method) -> Method:
    """``AMQP.send_task_message`` that is written down."""

    def send_task_message(producer: Any, name: str, message: Any, *args: Any, **kwargs: Any) -> Any:
        task, attrs = _about(message, args, kwargs)
        dispatched(task, message)
        emit("publish", "invoke", task, name=name, **attrs)
        before, publish = _now.publish, _Publish()
        _now.publish = publish
        try:
            result = send(producer, name, message, *args, **kwargs)
        except BaseException as error:
            emit("publish", publish.phase, task, name=name, error=failure(error), **attrs, **publish.attrs())
            raise
        finally:
            _now.publish = before
        if _is_redis(producer) and not publish.pushes and not publish.buffered:
            attrs["unrouted"] = True
        emit("publish", "ok", task, name=name, **attrs, **publish.attrs())
        return result

    send_task_message.recorded = send  # type: ignore[attr-defined]
    return send_task_message


def cached_senders(change: Callable[[Method], Method | None]) -> None:
    """Replace the sender that each application keeps once it has published, where *change* returns another."""
    state = sys.modules.get("celery._state")
    for app in state._get_active_apps() if state else ():
        amqp = vars(app).get("amqp")
        sender = vars(amqp).get("send_task_message") if amqp is not None else None
        other = change(sender) if sender is not None else None
        if other is not None:
            vars(amqp)["send_task_message"] = other


def _about(message: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    try:
        headers = message.headers or {}
        if "id" not in headers and isinstance(message.body, dict):  # Celery's first protocol
            headers = message.body
        given = dict(zip(("exchange", "routing_key", "queue"), args, strict=False))
        queue = given.get("queue") or kwargs.get("queue")
        attrs = {
            "queue": getattr(queue, "name", queue),
            "routing_key": given.get("routing_key") or kwargs.get("routing_key"),
            "eta": headers.get("eta"),
            "expires": headers.get("expires"),
            "retries": headers.get("retries"),
            "group": headers.get("group"),
            "index": headers.get("group_index"),
        }
        return headers.get("id"), attrs
    except Exception as error:
        return None, {"undescribed": failure(error)}


def _is_redis(producer: Any) -> bool:
    try:
        return is_redis(producer.channel)
    except Exception:
        return False


def _put(original: Method) -> Method:
    def _put(self: Any, *args: Any, **kwargs: Any) -> Any:
        publish = _now.publish
        if publish is None:
            return original(self, *args, **kwargs)
        if kwargs.get("_publish_batch") is not None:
            publish.buffered = True
            return original(self, *args, **kwargs)
        publish.attempts += 1
        publish.sent, publish.pushing = 0, True
        _pushing.append(publish)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            publish.doubtful += publish.sent > _is_answer(error)
            raise
        finally:
            _pushing.remove(publish)
            publish.pushing = False
        publish.pushes += 1
        return result

    return _put


def _is_answer(error: BaseException) -> bool:
    """Whether the server itself has said no."""
    names = {cls.__name__ for cls in type(error).mro() if cls.__module__ in ("redis.exceptions", "valkey.exceptions")}
    return bool(names & {"ResponseError", "BusyLoadingError"})


def _send_packed_command(original: Method) -> Method:
    def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        # A worker sends some ten commands a task here, and seldom any while a message is pushed.
        if _pushing and (publish := _now.publish) is not None and publish.pushing:
            first = command if isinstance(command, (str, bytes)) else next(iter(command), b"")
            start = first[:80].encode() if isinstance(first, str) else bytes(first[:80])
            if b"LPUSH" in start or b"PUBLISH" in start:
                if not self._sock:  # as the original does: a refused connection is not a push that was sent
                    connect = getattr(self, "connect_check_health", None)
                    connect(check_health=False) if connect else self.connect()
                publish.sent += 1
        return original(self, command, *args, **kwargs)

    return send_packed_command


def _send_task(original: Method) -> Method:
    """``delay()`` as its caller sees it: before it publishes it speaks to the result backend, and may wait for that."""

    def send_task(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if not in_client():
            return original(self, name, *args, **kwargs)
        task = kwargs.get("task_id")
        emit("send", "invoke", task, name=name)
        try:
            result = original(self, name, *args, **kwargs)
        except BaseException as error:
            emit("send", "fail", task, name=name, error=failure(error))
            raise
        emit("send", "ok", task or getattr(result, "id", None), name=name)
        return result

    return send_task


def patch(module: ModuleType) -> None:
    """Change ``celery.app.amqp`` or ``base``, ``kombu.transport.redis``, or the ``connection`` of a client library."""
    if module.__name__ == "celery.app.base":
        wrap(module, "Celery.send_task", _send_task)
    elif module.__name__ == "celery.app.amqp":
        wrap(module, "AMQP._create_task_sender", _create_task_sender)
    elif module.__name__ == "kombu.transport.redis":
        wrap(module, "Channel._put", _put)
        wrap(module, "Channel._put_fanout", _put)
    else:
        wrap(module, "AbstractConnection.send_packed_command", _send_packed_command)
