"""A ``celery worker`` of an environment: its command line."""

from __future__ import annotations

from typing import Any, Final

from pytest_celery_chaos.workers import statedb
from pytest_celery_chaos.workers.container import Container
from pytest_celery_chaos.workers.recorded import Recorded, celery, packages
from pytest_celery_chaos.workers.spec import WorkerSpec

_FAST: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class Worker(Recorded):
    """A worker of the environment.

    :param state: where ``statedb: redis`` keeps its state.
    :param made_with: see :class:`~pytest_celery_chaos.workers.recorded.Recorded`.
    :raises UsageError: ``statedb: redis`` without the package that does it.
    """

    def __init__(self, spec: WorkerSpec, *, state: statedb.Address = "", **made_with: Any) -> None:
        statedb.check(spec)
        super().__init__("worker", spec.name, env={**statedb.environment(spec, state), **spec.env}, **made_with)
        self.spec, self._state = spec, state

    @property
    def container(self) -> Container | None:
        """What it runs in; None: it is a process of this machine."""
        return self._keeper if isinstance(self._keeper, Container) else None

    @property
    def hostname(self) -> str:
        """The node name by which remote control means it."""
        named = self.spec.hostname or f"{self.spec.name}@chaos"
        return named.replace("%h", self.container.hostname) if self.container is not None else named

    def command_line(self) -> list[str]:
        """The worker's command line, as a user would type it."""
        spec = self.spec
        if self.container is None:
            line = celery(spec.celery, self._app, (*statedb.packages(spec), *packages(self.settings)))
        else:  # what the image has
            line = ["celery", "-A", self._app]
        line += ["worker", "--loglevel", "INFO", "--hostname", spec.hostname or self.hostname]
        line += ["--pool", spec.pool, "--concurrency", str(spec.concurrency)]
        if spec.queues:
            line += ["--queues", ",".join(spec.queues)]
        line += statedb.options(spec, self._folder, self._state)
        if spec.profile == "fast":
            line += _FAST
        return [*line, *spec.options]
