"""valkey-py by the names and signatures by which kombu and Celery call redis-py."""

from __future__ import annotations

from typing import Any

import redis.exceptions
import valkey
import valkey.client
import valkey.exceptions
import valkey.lock
import valkey.sentinel
from kombu.transport.redis import GlobalKeyPrefixMixin

# Celery's backend takes these from what it knows as the module of redis-py.
from valkey import SSLConnection as SSLConnection
from valkey import UnixDomainSocketConnection as UnixDomainSocketConnection


def translated(errors: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    """The same errors, with valkey-py's of each name in the place of redis-py's: the two are not related."""
    ours = valkey.exceptions
    return tuple(getattr(ours, e.__name__, e) if e.__module__ == "redis.exceptions" else e for e in errors)


class LockNotOwnedError(valkey.exceptions.LockNotOwnedError, redis.exceptions.LockNotOwnedError):
    """A lock had expired when it was to be released; kombu knows it as redis-py's error."""


class Lock(valkey.lock.Lock):
    """The lock around the sweep for unacknowledged messages."""

    def release(self) -> None:
        """:raises LockNotOwnedError: it had expired; kombu takes that for no failure."""
        try:
            super().release()
        except valkey.exceptions.LockNotOwnedError as error:
            raise LockNotOwnedError(str(error)) from error


class _AnyCommand:
    """A connection for no command in particular: redis-py from 5.3 on asks for none."""

    def get_connection(self, command_name: str = "_", *keys: Any, **options: Any) -> Any:
        return super().get_connection(command_name, *keys, **options)  # type: ignore[misc]


class ConnectionPool(_AnyCommand, valkey.ConnectionPool):
    """The pool of a client."""


class SentinelConnectionPool(_AnyCommand, valkey.sentinel.SentinelConnectionPool):
    """The pool of a client whose server is named by Sentinel."""


class Client(valkey.Valkey):
    """A client whose lock fails with an error that kombu knows."""

    def lock(self, name: str, *args: Any, **options: Any) -> Any:
        return super().lock(name, *args, **{"lock_class": Lock, **options})


class PrefixedPipeline(GlobalKeyPrefixMixin, valkey.client.Pipeline):
    """A pipeline that sets the transport option ``global_keyprefix`` before its keys."""

    def __init__(self, *args: Any, global_keyprefix: str = "", **options: Any) -> None:
        self.global_keyprefix = global_keyprefix
        super().__init__(*args, **options)


class PrefixedPubSub(valkey.client.PubSub):
    """A subscription that sets the prefix before its channels, and takes it off those of what arrives."""

    def __init__(self, *args: Any, global_keyprefix: str = "", **options: Any) -> None:
        self.global_keyprefix = global_keyprefix
        super().__init__(*args, **options)

    def execute_command(self, command: str, *args: Any) -> Any:
        if command in ("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE"):
            args = tuple(f"{self.global_keyprefix}{each}" for each in args)
        return super().execute_command(command, *args)

    def parse_response(self, *args: Any, **options: Any) -> Any:
        answer = super().parse_response(*args, **options)
        if answer is None:
            return None
        kind, *channels, message = answer
        return [kind, *(each[len(self.global_keyprefix) :] for each in channels), message]


class PrefixedClient(GlobalKeyPrefixMixin, Client):
    """A client that sets the transport option ``global_keyprefix`` before its keys."""

    def __init__(self, *args: Any, global_keyprefix: str = "", **options: Any) -> None:
        self.global_keyprefix = global_keyprefix
        super().__init__(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> PrefixedPipeline:
        return PrefixedPipeline(
            self.connection_pool,
            self.response_callbacks,
            transaction,
            shard_hint,
            global_keyprefix=self.global_keyprefix,
        )

    def pubsub(self, **options: Any) -> PrefixedPubSub:
        return PrefixedPubSub(self.connection_pool, global_keyprefix=self.global_keyprefix, **options)


class Sentinel(valkey.sentinel.Sentinel):
    """The Sentinel nodes that are asked for the server."""

    def master_for(self, service_name: str, redis_class: Any = Client, **options: Any) -> Any:  # type: ignore[override]
        """A client of the server of that name; Celery calls the parameter ``redis_class``."""
        return super().master_for(service_name, redis_class, SentinelConnectionPool, **options)

    def close(self) -> None:
        """Close the connections to the nodes themselves, as kombu from 5.7 on asks for (celery/kombu#1108)."""
        for node in self.sentinels:
            node.close()


#: What Celery's backend makes its client from.
StrictRedis = Client
