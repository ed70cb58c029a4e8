"""A worker in a container of its own: what the keeper's ``spawn`` is for a process, for a container.

The image has the application, or Celery alone; the recorder and the run's folders are put in at their own paths. The
container has its own files and host name, and shares network and process ids with this machine: so links reach into it
as they reach a process, a server sees whose each connection is, and a pid means the same inside and outside.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pytest_celery_chaos.system.child import Child
from pytest_celery_chaos.system.contained import Started, remove, start
from pytest_celery_chaos.system.engine import Engine, engine_errors
from pytest_celery_chaos.workers.recorded import INSIDE, VALKEY
from pytest_celery_chaos.workers.spec import WorkerSpec

#: Of a worker that names no image: Celery in its version, and nothing of an application's.
REPOSITORY: Final = "celery-chaos/worker"


class Container:
    """Starts one worker in the same container again and again, until it is renewed.

    :param folders: of the run, mounted where they are.
    """

    #: What the environment of the worker begins with: the image's own, which is not given again.
    environment: Final[Mapping[str, str]] = {}

    def __init__(self, spec: WorkerSpec, engine: Engine, folders: Sequence[Path]) -> None:
        self._engine, self._spec, self._folders = engine, spec, folders
        self._where = f"worker {spec.name!r}"
        self.image = engine.instead(spec.image or f"{REPOSITORY}:{spec.celery or _minor_of_celery()}")
        self.hostname = self._name()
        self._made_with: tuple[Sequence[str], Mapping[str, str]] | None = None
        self._container: Any = None
        self._child: Started | None = None

    def prepare(self, name: str, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """:meth:`spawn` needs nothing that takes time beforehand."""

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[Child], None] | None = None,
    ) -> Started:
        """Start it. Parameters as of :meth:`Keeper.spawn`.

        :raises ServerNotFound: the image is not there and cannot be pulled.
        :raises StartFailed: the engine does not start it.
        """
        if self._made_with is not None and self._made_with != (argv, env):
            self._remove()
        if self._container is None:
            self._engine.need(self.image, self._where)
        with engine_errors("its container cannot be started", where=self._where, hint="see the engine's own words"):
            if self._container is None:
                self._container = self._create(argv, env, cwd)
                self._made_with = argv, env
            self._child = start(self._container, name, argv, log=log, on_exit=on_exit)
        return self._child

    def renew(self) -> None:
        """Put the container away: the next start is another one, with another host name unless that is given."""
        self._remove()
        self.hostname = self._name()

    def close(self) -> None:
        """End it, if it runs, and remove the container. Idempotent."""
        self._remove()

    def _name(self) -> str:
        return self._spec.container_hostname or uuid.uuid4().hex[:12]

    def _create(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Any:
        mounts = {str(folder): {"bind": str(folder), "mode": "ro"} for folder in (INSIDE, VALKEY)}
        mounts |= {str(folder): {"bind": str(folder), "mode": "rw"} for folder in self._folders}
        more: dict[str, Any] = {}
        if self._spec.image is None:  # then the application is here, and not in the image
            mounts.setdefault(str(cwd), {"bind": str(cwd), "mode": "ro"})
            more["working_dir"] = str(cwd)
        return self._engine.testcontainers.create(
            self.image,
            command=list(argv),
            environment=dict(env),
            labels=self._engine.labels,
            volumes=mounts,
            hostname=self.hostname,
            network="host",
            pid_mode="host",
            # The ledgers are written into folders of ours.
            user=f"{os.getuid()}:{os.getgid()}",
            **more,
        )

    def _remove(self) -> None:
        container, self._container = self._container, None
        self._made_with = None
        if container is not None:
            with engine_errors("cannot remove its container", where=self._where, hint="docker rm"):
                remove(container, self._child)


def _minor_of_celery() -> str:
    return ".".join(version("celery").split(".")[:2])
