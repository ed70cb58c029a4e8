"""``valkey://`` for Celery: a broker transport and a result backend on valkey-py.

For any Celery application; nothing else of this package is imported. Once, before the application connects::

    from pytest_celery_chaos import valkey

    valkey.install()
    app = Celery("shop", broker="valkey://localhost/0", backend="valkey://localhost/1")

They are kombu's Redis transport and Celery's Redis backend with valkey-py in the place of redis-py: the same keys,
options and settings, and applications with ``redis://`` and ``valkey://`` may share one server. redis-py must be
installed, since kombu and Celery import it, and opens no connection. ``docs/valkey.md`` says how to move.
"""

from __future__ import annotations

from .versions import check

__all__ = ["install"]

_TRANSPORTS = {"valkey": "Transport", "valkeys": "TLSTransport", "valkeysentinel": "SentinelTransport"}
_BACKENDS = {"valkey": "Backend", "valkeys": "Backend", "valkeysentinel": "SentinelBackend"}


def install() -> None:
    """Make ``valkey://``, ``valkeys://``, ``valkey+socket://`` and ``valkeysentinel://`` known to this process.

    For all its applications; what other addresses lead to is left as it is. Calling it again changes nothing.

    :raises ImportError: valkey-py or redis-py is not installed.
    :raises kombu.exceptions.VersionMismatch: a version of kombu, Celery or valkey-py that this is not made for.
    """
    check()
    from celery.app.backends import BACKEND_ALIASES
    from kombu.transport import TRANSPORT_ALIASES

    # By name: a process that only publishes never imports the backend.
    TRANSPORT_ALIASES.update({scheme: f"{__name__}.transport:{name}" for scheme, name in _TRANSPORTS.items()})
    BACKEND_ALIASES.update({scheme: f"{__name__}.backend:{name}" for scheme, name in _BACKENDS.items()})
