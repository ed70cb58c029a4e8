"""Which versions this is made for: it overrides inner methods of kombu and Celery, which others may not have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from kombu.exceptions import VersionMismatch

#: Distribution: from this version on, and before that one.
SUPPORTED = {"kombu": ((5, 5), (5, 8)), "celery": ((5, 5), (5, 8)), "valkey": ((6, 1), (7, 0))}


def check() -> None:
    """Refuse to go on where it would fail later, in the middle of a task.

    :raises ImportError: valkey-py or redis-py is not installed.
    :raises VersionMismatch: a version outside of :data:`SUPPORTED`.
    """
    for name, (first, end) in SUPPORTED.items():
        found = _installed(name)
        if not first <= found < end:
            least, under, here = (".".join(map(str, each)) for each in (first, end, found))
            raise VersionMismatch(f"valkey:// is made for {name} {least} to below {under}, and {here} is installed")
    _installed("redis")


def _installed(name: str) -> tuple[int, int]:
    try:
        major, minor, *_ = version(name).split(".")
    except PackageNotFoundError:
        what = {
            "valkey": "valkey:// needs valkey-py: pip install 'pytest-celery-chaos[valkey]'",
            "redis": "valkey:// needs redis-py beside valkey-py, since kombu and Celery import it: pip install redis",
        }
        raise ImportError(what.get(name, f"valkey:// needs {name}: pip install {name}")) from None
    return int(major), int(minor)
