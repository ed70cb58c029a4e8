"""What one test process shares between its runs: the keeper, and the place where runs are stored."""

from __future__ import annotations

import os
import select
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Keeper

#: Processes (comma-separated pids) whose death ends this one and all that it started, set for worker processes
#: of xdist by the plugin: a controller killed by SIGKILL tells its workers nothing.
WATCH = "CELERY_CHAOS_WATCH"


class Session:
    """Lives as long as the test process; :meth:`close` ends every process that it started.

    :param store: the folder that the runs' folders are made in.
    :param keep: leave processes running at the end (``--chaos-keep``).
    """

    def __init__(self, store: Path, *, keep: bool = False) -> None:
        self.store, self.keep = store, keep
        #: What the run under way is doing, for the progress line.
        self.doing = ""
        #: Set when the user has interrupted the session: what has not been judged is not judged any more.
        self.interrupted = False

    @cached_property
    def keeper(self) -> Keeper:
        from pytest_celery_chaos.system.keeper import Keeper

        watch = [int(pid) for pid in os.environ.get(WATCH, "").split(",") if pid]
        keeper = Keeper(watch=watch)
        for pid in watch:
            threading.Thread(target=_follow, args=(os.pidfd_open(pid),), name="chaos-follow", daemon=True).start()
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


def _follow(pidfd: int) -> None:
    """End with the process that is watched, also when the keeper is closed already.

    A worker of xdist that was interrupted while it ended would stay for 15 seconds.
    """
    select.select([pidfd], [], [])
    os._exit(1)
