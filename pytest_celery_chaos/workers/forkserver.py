"""Processes that find Celery imported: forked from one that has it, where that makes no difference to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_celery_chaos.workers.recorded import INSIDE, OWN_VARIABLES

if TYPE_CHECKING:
    from pytest_celery_chaos.system.child import Child
    from pytest_celery_chaos.system.keeper import Keeper

_PROGRAM: Final = INSIDE / "celery_chaos_forkserver.py"
#: Forkservers that one session starts: one for each role, Python, PYTHONPATH and client library that it meets.
MOST: Final = 12
#: What differs from process to process, and is looked at by none before it is forked; pytest changes the last with
#: every test.
_OWN: Final = OWN_VARIABLES | {"PYTEST_CURRENT_TEST"}
_PREFIX: Final = "CELERY_CHAOS_"
_VALKEY: Final = "CELERY_CHAOS_VALKEY"
_ROLES: Final = ("worker", "client")


class Forking:
    """Starts processes as :meth:`Keeper.spawn` does, by a fork where that has the same effect.

    It has where the process differs from this one's environment in nothing but what the harness itself gives it: a
    variable of its own may change what Python, Celery or a library does when it is imported. And not where its pool
    patches the standard library before Celery is imported.

    :param keeper: starts the forkservers, and what is not forked.
    :param folder: for the forkservers' log.
    """

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self._keeper, self._folder = keeper, folder
        self._servers: dict[object, Child] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """What the environment of a process of this machine begins with: ours."""
        return self._keeper.environment

    def prepare(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], **_: object) -> None:
        """Start the forkserver for such a process, if it is not there yet."""
        self._server(name.partition(":")[0], argv, env)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        on_exit: Callable[[Child], None] | None = None,
    ) -> Child:
        """See :meth:`Keeper.spawn`."""
        server = self._server(name.partition(":")[0], argv, env)
        if server is not None:
            child = self._keeper.fork(server, name, argv, env=env, cwd=cwd, log=log, on_exit=on_exit)
            if child is not None:
                return child
        return self._keeper.spawn(name, argv, env=env, cwd=cwd, log=log, on_exit=on_exit)

    def _server(self, role: str, argv: Sequence[str], env: Mapping[str, str]) -> Child | None:
        """The forkserver for a process; None: there can be none."""
        common, here = _common(env), _common(self.environment)
        path, _ = common.pop("PYTHONPATH", ""), here.pop("PYTHONPATH", None)
        if role not in _ROLES or common != here or not _runs(argv):
            return None
        valkey = {_VALKEY: env[_VALKEY]} if _VALKEY in env else {}
        environment = {**common, **valkey, "PYTHONPATH": path, f"{_PREFIX}LEDGERS": "-"}
        key = role, argv[0], *sorted(environment.items())
        if key not in self._servers and len(self._servers) < MOST:
            line, log = [argv[0], str(_PROGRAM), role], self._folder / "forkserver.log"
            self._servers[key] = self._keeper.forkserver(f"forkserver:{role}", line, env=environment, log=log)
        server = self._servers.get(key)
        return server if server is not None and server.alive else None


def _common(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in _OWN and not name.startswith(_PREFIX)}


def _runs(argv: Sequence[str]) -> bool:
    """Whether a forkserver runs this command line as Python does, and at the same point."""
    return not is_green(argv) and len(argv) > 1 and (argv[1] == "-m" or Path(argv[1]).name == "celery")


def is_green(argv: Sequence[str]) -> bool:
    """Whether the standard library is patched before Celery is imported, for the pool of this command line."""
    return any("gevent" in argument or "eventlet" in argument for argument in argv)
