"""kombu's Redis transport on valkey-py. What is not overridden here is kombu's own."""

from __future__ import annotations

from functools import partial
from typing import Any

import valkey
from kombu.transport import redis as theirs
from kombu.utils.url import url_to_parts

from .client import Client, ConnectionPool, PrefixedClient, Sentinel, translated


def _polled(kind: type[Any], channel: Any) -> type[Any]:
    """A connection class of which the channel's event loop learns when it is cut, as kombu makes it of redis-py's."""

    class Connection(kind):
        def disconnect(self, *args: Any, **options: Any) -> None:
            super().disconnect(*args, **options)
            if channel._registered:
                channel._on_connection_disconnect(self)

    return Connection


class Channel(theirs.Channel):
    """Everything that opens a connection or names an error; the rest is in terms of these."""

    connection_class: Any = valkey.Connection
    connection_class_ssl: Any = valkey.SSLConnection

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=False)
        if "path" in params:  # kombu has put redis-py's class for unix sockets there
            params["connection_class"] = valkey.UnixDomainSocketConnection
        if asynchronous:
            params["connection_class"] = _polled(params["connection_class"], self)
        return params

    def _get_pool(self, asynchronous: bool = False) -> Any:
        params = self._connparams(asynchronous=asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=params["db"])
        return ConnectionPool(**params)

    def _get_client(self) -> Any:
        return partial(PrefixedClient, global_keyprefix=self.global_keyprefix) if self.global_keyprefix else Client

    def _get_response_error(self) -> type[BaseException]:
        return valkey.ResponseError


class Transport(theirs.Transport):
    """``valkey://`` and ``valkey+socket://``.

    :cvar driver_type: stays ``redis``: by it Celery knows brokers on which mingle and gossip work.
    """

    Channel = Channel
    driver_name = "valkey"
    connection_errors = translated(theirs.Transport.connection_errors)
    channel_errors = translated(theirs.Transport.channel_errors)

    def driver_version(self) -> str:
        return valkey.__version__


class TLSChannel(Channel):
    """TLS whether or not options for it are given; without any, the server's certificate is verified."""

    connection_class: Any = valkey.SSLConnection


class TLSTransport(Transport):
    """``valkeys://``."""

    Channel = TLSChannel


class SentinelChannel(Channel, theirs.SentinelChannel):
    """The broker is the server that Sentinel names."""

    connection_class: Any = valkey.sentinel.SentinelManagedConnection
    connection_class_ssl: Any = valkey.sentinel.SentinelManagedSSLConnection
    _get_pool = theirs.SentinelChannel._get_pool

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        master = getattr(self, "master_name", None)
        if master is None:
            raise ValueError("valkeysentinel:// needs the transport option 'master_name'")
        params = self._connparams(asynchronous)
        address = params.pop("host", None), params.pop("port", None)
        nodes = [
            (node.hostname, node.port or self.connection.default_port)
            for node in map(url_to_parts, self.connection.client.alt)
        ]
        manager = Sentinel(
            nodes or [address],
            min_other_sentinels=getattr(self, "min_other_sentinels", 0),
            sentinel_kwargs=getattr(self, "sentinel_kwargs", None),
            **params,
        )
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", manager)
        return manager.master_for(master).connection_pool


class SentinelTransport(Transport):
    """``valkeysentinel://a;valkeysentinel://b``, also spelled ``valkeysentinel://a;sentinel://b``."""

    default_port: Any = theirs.SentinelTransport.default_port
    Channel = SentinelChannel

    def __init__(self, client: Any, **options: Any) -> None:
        # kombu goes on to the next address with the transport that this one's scheme names: from `sentinel://` on it
        # would be redis-py's.
        alternates = [f"valkeysentinel://{each.partition('://')[2]}" for each in client.alt]
        if alternates != client.alt:
            client.alt[:] = alternates
            client.cycle = client.failover_strategy(client.alt)
            next(client.cycle)
        super().__init__(client, **options)
