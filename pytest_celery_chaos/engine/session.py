"""What one test process shares between its runs: the keeper, and the place where runs are stored."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import OnExit, RedisServer
    from pytest_celery_chaos.brokers.spec import BrokerSpec
    from pytest_celery_chaos.system.engine import Engine
    from pytest_celery_chaos.system.keeper import Keeper
    from pytest_celery_chaos.values import Provider, ProxyKind, StartMethod
    from pytest_celery_chaos.workers.container import Container
    from pytest_celery_chaos.workers.recorded import Spawner
    from pytest_celery_chaos.workers.spec import WorkerSpec

#: Processes (comma-separated pids) whose death ends this one and all that it started, set for worker processes
#: of xdist by the plugin: a controller killed by SIGKILL tells its workers nothing.
WATCH = "CELERY_CHAOS_WATCH"


class Session:
    """Lives as long as the test process; :meth:`close` ends every process that it started.

    :param store: the folder that the runs' folders are made in.
    :param keep: leave processes running at the end (``--chaos-keep``).
    :param proxy: what links go through where a plan leaves it open (``chaos_proxy``).
    :param provider: where servers run for which a plan leaves it open (``chaos_provider``).
    :param start_method: how workers and clients are started (``chaos_start_method``).
    :param images: by an image's name, the one that is taken in its place (``chaos_images``).
    """

    def __init__(
        self,
        store: Path,
        *,
        keep: bool = False,
        proxy: ProxyKind = "resp",
        provider: Provider = "local",
        start_method: StartMethod = "forkserver",
        images: Mapping[str, str] | None = None,
    ) -> None:
        self.store, self.keep, self.proxy, self.provider = store, keep, proxy, provider
        self._images, self._start_method = images, start_method
        #: What the run under way is doing, for the progress line.
        self.doing = ""
        #: Set when the user has interrupted the session: what has not been judged is not judged any more.
        self.interrupted = False

    @cached_property
    def keeper(self) -> Keeper:
        from pytest_celery_chaos.system.keeper import Keeper

        watch = watched()
        keeper = Keeper(watch=watch)
        follow(watch)
        return keeper

    @cached_property
    def spawner(self) -> Spawner:
        """What starts workers and clients."""
        if self._start_method == "spawn":
            return self.keeper
        from pytest_celery_chaos.workers.forkserver import Forking

        return Forking(self.keeper, self.keeper.temp_folder())

    @cached_property
    def engine(self) -> Engine:
        """The container engine, asked for when the first container is.

        :raises ServerNotFound: there is none, or no testcontainers.
        """
        from pytest_celery_chaos.system.engine import Engine

        return Engine(self.keeper, self._images)

    def provide(self, spec: BrokerSpec, folder: Path, log: Path, *, on_exit: OnExit | None = None) -> RedisServer:
        """Make a server, not started: a process or a container, as its spec or else the session says.

        :param folder: of the run, for this server.
        :param log: file that its output is appended to.
        """
        where = spec.runs_in(self.provider)
        if where == "external":
            from pytest_celery_chaos.brokers.external import ExternalServer

            return ExternalServer(spec, self.keeper, log)
        if where == "container":
            from pytest_celery_chaos.brokers.container import ContainerServer

            return ContainerServer(spec, self.keeper, self.engine, log, on_exit=on_exit)
        from pytest_celery_chaos.brokers.local import LocalServer

        return LocalServer(spec, self.keeper, folder, log, on_exit=on_exit)

    def contain(self, spec: WorkerSpec, folders: Sequence[Path], control: Path) -> Container | None:
        """The container of a worker that runs in one, not started; None for one that does not.

        :param folders: of the run, which the recorder writes into.
        :param control: that of them in which processes are told what to do.
        """
        if spec.runs_in(self.provider) != "container":
            return None
        from pytest_celery_chaos.workers.container import Container

        return Container(spec, self.engine, folders, None if self._start_method == "spawn" else control)

    def close(self) -> None:
        """End everything, unless it is to be kept and nobody has interrupted. Safe to call twice."""
        if "keeper" not in self.__dict__:
            return
        if self.keep and not self.interrupted:
            self.keeper.stay()
            self.keep = False
        else:
            self.keeper.close()


def watched() -> list[int]:
    """The processes that this one is not to outlive."""
    return [int(pid) for pid in os.environ.get(WATCH, "").split(",") if pid]


def follow(pids: Iterable[int]) -> None:
    """From now on end at once when one of *pids* does, whether there is a keeper, not yet, or not any more.

    A worker of xdist that starts, or ends, while its controller is killed would stay for up to 15 seconds.
    """
    for pid in set(pids) - _followed:
        _followed.add(pid)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            os._exit(1)
        threading.Thread(target=_end_with, args=(pidfd,), name="chaos-follow", daemon=True).start()


_followed: set[int] = set()


def _end_with(pidfd: int) -> None:
    select.select([pidfd], [], [])
    os._exit(1)
