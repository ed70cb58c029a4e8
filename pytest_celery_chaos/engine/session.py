"""What one test process shares between its runs: the keeper, and the place where runs are stored."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Keeper
    from pytest_celery_chaos.values import ProxyKind

#: Processes (comma-separated pids) whose death ends this one and all that it started, set for worker processes
#: of xdist by the plugin: a controller killed by SIGKILL tells its workers nothing.
WATCH = "CELERY_CHAOS_WATCH"


class Session:
    """Lives as long as the test process; :meth:`close` ends every process that it started.

    :param store: the folder that the runs' folders are made in.
    :param keep: leave processes running at the end (``--chaos-keep``).
    :param proxy: what links go through where a plan leaves it open (``chaos_proxy``).
    """

    def __init__(self, store: Path, *, keep: bool = False, proxy: ProxyKind = "resp") -> None:
        self.store, self.keep, self.proxy = store, keep, proxy
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
