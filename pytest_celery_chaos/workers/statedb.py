"""Where a worker keeps its revoked ids between its lives: the file of ``--statedb``, or Redis.

Redis by the package celery-redis-statedb, an extra of ours: ``install_redis_statedb(app)`` gives ``celery worker`` an
option ``--redis-statedb=URL``. It is imported in the worker alone; here it is only looked for.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final, TypeAlias

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.workers.spec import WorkerSpec

#: ``redis://[:password@]host:port/db``.
Address: TypeAlias = str

PACKAGE: Final = "celery_redis_statedb"
REQUIREMENT: Final = "celery-redis-statedb==0.2.*"
#: Values of ``statedb:`` that mean it.
REDIS: Final = ("redis", "redis-env")


def check(spec: WorkerSpec) -> None:
    """Raise UsageError where a worker is to keep its state in Redis and the package for it is not installed."""
    if spec.statedb in REDIS and spec.celery is None and importlib.util.find_spec(PACKAGE) is None:
        raise UsageError(
            f"`statedb: {spec.statedb}` needs the package celery-redis-statedb, which is not installed",
            where=f"worker {spec.name!r}",
            hint="pip install pytest-celery-chaos[statedb]",
        )


def packages(spec: WorkerSpec) -> tuple[str, ...]:
    """What the environment of another Celery version needs for it."""
    return (REQUIREMENT,) if spec.statedb in REDIS else ()


def options(spec: WorkerSpec, folder: Path, address: Address) -> list[str]:
    """The part of the worker's command line that is about its state.

    :param folder: of the run.
    """
    if spec.statedb is None or spec.statedb == "redis-env":
        return []
    if spec.statedb == "redis":
        return ["--redis-statedb", address]
    if spec.statedb != "file":
        return ["--statedb", spec.statedb]
    (folder / "state").mkdir(exist_ok=True)
    return ["--statedb", str(folder / "state" / f"{spec.name}.state")]


def environment(spec: WorkerSpec, address: Address) -> dict[str, str]:
    """The variables that are about its state; the first is for the built-in application."""
    if spec.statedb not in REDIS:
        return {}
    return {"CELERY_CHAOS_STATEDB": "1", "REDIS_STATEDB_URL": address}
