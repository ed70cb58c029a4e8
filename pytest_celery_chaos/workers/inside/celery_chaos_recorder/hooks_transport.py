"""The Redis transport as a consumer sees it: pop, record, acknowledge, reject, prefetch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .describe import failure, is_redis, message_attrs, message_task
from .patches import wrap
from .record import emit, hold

Method = Callable[..., Any]

#: A channel's attribute: the socket of its BRPOP connection that has been reported. Asked for at every BRPOP, and a
#: WeakKeyDictionary is slow to ask.
_REPORTED = "__celery_chaos_reported__"


def _append(original: Method) -> Method:
    def append(self: Any, message: Any, delivery_tag: str) -> Any:
        task, name = message_task(message)
        attrs = message_attrs(message)
        emit("popped", None, task, name=name, **attrs)
        result = original(self, message, delivery_tag)
        if eta := (message.headers or {}).get("eta"):
            attrs["eta"] = eta
        emit("received", None, task, name=name, **attrs)
        return result

    return append


def _settle(kind: str) -> Callable[[Method], Method]:
    """`ack` or `reject`: invoke when it is decided, ok when Redis has answered."""

    def make(original: Method) -> Method:
        def settle(self: Any, delivery_tag: str, *args: Any, **kwargs: Any) -> Any:
            task, name = message_task(self._delivered.get(delivery_tag))
            attrs: dict[str, Any] = {"tag": delivery_tag}
            if kind == "reject":
                attrs["requeue"] = bool(args[0] if args else kwargs.get("requeue", False))
            emit(kind, "invoke", task, name=name, **attrs)
            try:
                result = original(self, delivery_tag, *args, **kwargs)
            except BaseException as error:
                emit(kind, "unknown", task, name=name, error=failure(error), **attrs)
                raise
            emit(kind, "ok", task, name=name, **attrs)
            return result

        return settle

    return make


def _base_only(base: Any, make: Callable[[Method], Method]) -> Callable[[Method], Method]:
    """For ``virtual.QoS``, which is other transports', too; Redis uses it itself only with ``ack_emulation: false``."""

    def make_base(original: Method) -> Method:
        recorded = make(original)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            itself = type(self) is base and is_redis(self.channel)
            return (recorded if itself else original)(self, *args, **kwargs)

        return method

    return make_base


def _brpop_start(original: Method) -> Method:
    def _brpop_start(self: Any, *args: Any, **kwargs: Any) -> Any:
        hold("pop", "invoke")
        result = original(self, *args, **kwargs)
        try:
            _report_connection(self)
        except Exception as error:
            emit("hook_failed", hook="consuming", error=failure(error))
        return result

    return _brpop_start


def _holds_tasks(queue: str) -> bool:
    # Mingle waits for its replies by BRPOP, too, on the connection on which tasks are to come later.
    return not (".reply." in queue and queue.endswith(".pidbox"))


def _report_connection(channel: Any) -> None:
    connection = channel._in_poll
    sock = getattr(connection, "_sock", None)
    if sock is None:
        return
    known = getattr(channel, _REPORTED, None)
    if known is not None and known() is sock:
        return
    if not any(map(_holds_tasks, channel.active_queues)):
        return
    setattr(channel, _REPORTED, weakref.ref(sock))
    emit("consuming", address=_address(sock.getsockname), peer=_address(sock.getpeername))


def _address(of: Callable[[], Any]) -> str | None:
    """Host and port of one end of a connection; None of a unix socket's, and where the connection is lost already."""
    try:
        name = of()
    except OSError:
        return None
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else None


def _drops(kind: str, of: Callable[[Any], Any]) -> Callable[[Method], Method]:
    """kombu's own look whether the server still answers on a connection; it drops one where that is overdue."""

    def make(original: Method) -> Method:
        def check(self: Any, *args: Any, **kwargs: Any) -> Any:
            connected = [each for channel in self._channels if getattr(each := of(channel), "_sock", None) is not None]
            result = original(self, *args, **kwargs)
            for connection in connected:
                if connection._sock is None:
                    emit("connection_dropped", type=kind)
            return result

        return check

    return make


def _pubsub(channel: Any) -> Any:
    return getattr(channel.__dict__.get("subclient"), "connection", None)


def _basic_qos(original: Method) -> Method:
    def basic_qos(self: Any, prefetch_size: int = 0, prefetch_count: int = 0, *args: Any, **kwargs: Any) -> Any:
        result = original(self, prefetch_size, prefetch_count, *args, **kwargs)
        emit("prefetch", count=prefetch_count)
        return result

    return basic_qos


def patch(module: ModuleType) -> None:
    """Change ``kombu.transport.redis`` or ``kombu.transport.virtual.base``."""
    if module.__name__ == "kombu.transport.redis":
        wrap(module, "QoS.append", _append)
        wrap(module, "QoS.ack", _settle("ack"))
        wrap(module, "QoS.reject", _settle("reject"))
        wrap(module, "Channel._brpop_start", _brpop_start)
        brpop, pubsub = _drops("normal", lambda channel: channel._in_poll), _drops("pubsub", _pubsub)
        wrap(module, "MultiChannelPoller.maybe_check_brpop_health", brpop, optional=True)
        wrap(module, "MultiChannelPoller.maybe_check_subclient_health", pubsub, optional=True)
        return
    base = getattr(module, "QoS", None)
    wrap(module, "QoS.append", _base_only(base, _append))
    wrap(module, "QoS.ack", _base_only(base, _settle("ack")))
    wrap(module, "QoS.reject", _base_only(base, _settle("reject")))
    wrap(module, "Channel.basic_qos", _basic_qos)
