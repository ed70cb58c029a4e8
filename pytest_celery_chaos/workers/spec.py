"""What a scenario says of a worker, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_celery_chaos.values import AppRef, BrokerRef, Provider

Pool = Literal["prefork", "solo", "threads"]
#: `default` is Celery as users run it: mingle, gossip and heartbeat on. `fast` starts a second sooner, without
#: them, and so without the revoked ids that mingle carries from worker to worker.
Profile = Literal["default", "fast"]


@dataclass(frozen=True)
class WorkerSpec:
    """One ``celery worker``.

    :param name: by which steps name it; its node name is ``NAME@chaos`` unless *hostname* says otherwise.
    :param app: which of the scenario's applications it runs.
    :param pool: ``--pool``.
    :param concurrency: ``--concurrency``.
    :param queues: ``--queues``; empty: the application's default.
    :param start: started with the environment; else by a ``start`` step.
    :param profile: see :data:`Profile`.
    :param hostname: ``--hostname``, the whole node name.
    :param statedb: where it keeps revoked ids between its lives. ``file``: in a file of the run (``--statedb``).
        ``redis``: in database 15 of a server of the run (``--redis-statedb``), by the package celery-redis-statedb,
        which an application of your own has to install itself (``install_redis_statedb(app)``). ``redis-env``: the
        same, but the address is given by ``REDIS_STATEDB_URL`` alone. Anything else is passed on as ``--statedb``.
    :param statedb_server: whose server that is: the broker's or the backend's name.
    :param options: further command-line options, as they stand on the command line.
    :param env: environment variables.
    :param config: Celery settings laid over the application's in this worker alone.
    :param celery: run it under this Celery version (``5.5``), in an environment made for it; None: the installed one.
    :param provider: whether it is a process of this machine or runs in a container. Default: the setting
        `chaos_provider`.
    :param image: the container's image, with the application in it; default: one with Celery alone, and the
        application from the current folder.
    :param container_hostname: the container's host name, the same for each; default: a new one for each container, as
        an orchestrator gives. ``hostname: "a@%h"`` makes it the node's.
    """

    name: str
    app: AppRef = "main"
    pool: Pool = "prefork"
    concurrency: int = 1
    queues: Sequence[str] = ()
    start: bool = True
    profile: Profile = "default"
    hostname: str | None = None
    statedb: str | None = None
    statedb_server: BrokerRef = "main"
    options: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    celery: str | None = None
    provider: Provider | None = None
    image: str | None = None
    container_hostname: str | None = None

    def runs_in(self, preferred: Provider) -> Provider:
        """Where it runs, in a session that prefers so: what the spec says, or cannot be otherwise, comes first."""
        return self.provider or ("container" if self.image or self.container_hostname else preferred)
