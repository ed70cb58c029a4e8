"""Celery's Redis result backend on valkey-py. What is not overridden here is Celery's own."""

from __future__ import annotations

from typing import Any

import redis
import valkey.sentinel
from celery import __version__ as celery_version
from celery.backends import redis as theirs

from . import client
from .client import translated

#: What Celery knows as the URL's scheme; it decides over TLS.
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class Backend(theirs.RedisBackend):
    """``valkey://``, ``valkeys://`` and ``valkey+socket://``."""

    redis = client
    #: The connection class with TLS. Celery's own attribute for it stays redis-py's: by that Celery recognises that the
    #: parameters of TLS are to be checked.
    tls_connection_class: type[Any] = valkey.SSLConnection
    connection_errors: tuple[type[BaseException], ...]
    channel_errors: tuple[type[BaseException], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if issubclass(self.connparams.get("connection_class", object), redis.SSLConnection):
            self.connparams["connection_class"] = self.tls_connection_class
        self.connection_errors = translated(self.connection_errors)
        self.channel_errors = translated(self.channel_errors)
        self.result_consumer._connection_errors = self.connection_errors  # taken over when it was made

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        scheme, separator, rest = url.partition("://")
        params: dict[str, Any] = super()._params_from_url(_SCHEMES.get(scheme, scheme) + separator + rest, defaults)
        return params

    def _add_driver_info(self) -> None:
        """Say to the server who we are (CLIENT LIST), from Celery 5.7 on."""
        self.connparams["lib_name"] = f"valkey-py(celery_v{celery_version})"


class SentinelBackend(Backend, theirs.SentinelBackend):
    """``valkeysentinel://a;valkeysentinel://b``, also spelled ``valkeysentinel://a;sentinel://b``."""

    sentinel = client
    tls_connection_class = valkey.sentinel.SentinelManagedSSLConnection
