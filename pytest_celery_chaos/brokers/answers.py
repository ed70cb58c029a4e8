"""The harness's own reads of a server that a fault may keep from answering (frozen, loading, paused, gone)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_celery_chaos.errors import NoAnswer


@contextmanager
def answering() -> Iterator[None]:
    """Turn what redis-py raises where a server does not answer (no connection, time-out, LOADING) into one error.

    What a server answers, be it an error, passes: it is for the caller to judge.

    :raises NoAnswer: the server does not answer now; it may later.
    """
    try:
        yield
    except Exception as error:
        # Not imported before: whoever reads has imported it, and who does not read need not.
        from redis import ConnectionError, TimeoutError

        if isinstance(error, ConnectionError | TimeoutError):
            raise NoAnswer(
                f"a server does not answer the harness: {type(error).__name__}: {error}",
                hint="heal the fault that keeps it from answering before it is looked at",
            ) from error
        raise
