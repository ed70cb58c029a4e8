"""A worker in a container of its own: what the keeper's ``spawn`` is for a process, for a container.

The image has the application, or Celery alone; the recorder and the run's folders are put in at their own paths. The
container has its own files and host name, and shares network and process ids with this machine: so links reach into it
as they reach a process, a server sees whose each connection is, and a pid means the same inside and outside.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from pytest_celery_chaos.errors import ChaosError
from pytest_celery_chaos.system.child import Child
from pytest_celery_chaos.system.contained import Started, remove, start
from pytest_celery_chaos.system.engine import Engine, engine_errors
from pytest_celery_chaos.workers.forkserver import is_green
from pytest_celery_chaos.workers.recorded import INSIDE, VALKEY
from pytest_celery_chaos.workers.spec import WorkerSpec

#: Of a worker that names no image: Celery in its version, and nothing of an application's.
REPOSITORY: Final = "celery-chaos/worker"
#: Names the file that a worker waits for, once it has imported Celery.
GO: Final = "CELERY_CHAOS_GO"


class Container:
    """Starts one worker in the same container again and again, until it is renewed.

    Once it is prepared the container runs: the worker imports Celery while the servers start, and goes on with its
    application when it is spawned (see ``await_go`` of ``inside/celery_chaos_forkserver.py``).

    :param folders: of the run, mounted where they are.
    :param control: that of them in which a worker that is prepared is told to go on; None: it is started when it is
        spawned.
    """

    #: What the environment of the worker begins with: the image's own, which is not given again.
    environment: Final[Mapping[str, str]] = {}

    def __init__(self, spec: WorkerSpec, engine: Engine, folders: Sequence[Path], control: Path | None) -> None:
        self._engine, self._spec, self._folders, self._control = engine, spec, folders, control
        self._where = f"worker {spec.name!r}"
        self.image = engine.instead(spec.image or f"{REPOSITORY}:{spec.celery or _minor_of_celery()}")
        self.hostname = self._name()
        self._made_with: tuple[Sequence[str], Mapping[str, str]] | None = None
        self._container: Any = None
        self._child: Started | None = None
        self._beginning: Future[None] | None = None

    def prepare(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], **process: Any) -> None:
        """Begin to start it, in a thread of its own; whatever goes wrong is raised by :meth:`spawn`."""
        if self._may_wait(argv):
            thread = ThreadPoolExecutor(1, "celery-chaos prepare")
            self._beginning = thread.submit(self._start, name, argv, env=env, **process)
            thread.shutdown(wait=False)

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
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            beginning.result()
        if self._made_with is not None and self._made_with != (argv, env):
            if beginning is not None and self._child is not None:
                self._child.disown()  # it has never begun
            self._remove()
            beginning = None
        if self._may_wait(argv):
            Path(self._go).touch()
        if beginning is None:
            self._start(name, argv, env=env, cwd=cwd, log=log, on_exit=on_exit)
        assert self._child is not None
        return self._child

    def _start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[Child], None] | None,
    ) -> None:
        if self._container is None:
            self._engine.need(self.image, self._where)
        with engine_errors("its container cannot be started", where=self._where, hint="see the engine's own words"):
            if self._container is None:
                self._container = self._create(argv, env, cwd)
                self._made_with = argv, env
            self._child = start(self._container, name, argv, log=log, on_exit=on_exit)

    def _may_wait(self, argv: Sequence[str]) -> bool:
        return self._control is not None and not is_green(argv)

    @property
    def _go(self) -> str:
        """Once this file is there the worker that is prepared goes on, and later ones do not wait."""
        return f"{self._control}/go-{self.hostname}"

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
            environment={**env, **({GO: self._go} if self._may_wait(argv) else {})},
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
        beginning, self._beginning = self._beginning, None
        if beginning is not None:
            with contextlib.suppress(ChaosError):  # nobody has asked for it
                beginning.result()
        container, self._container = self._container, None
        self._made_with = None
        if container is not None:
            with engine_errors("cannot remove its container", where=self._where, hint="docker rm"):
                remove(container, self._child)


def _minor_of_celery() -> str:
    return ".".join(version("celery").split(".")[:2])
