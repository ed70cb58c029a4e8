"""The import hook: patches the modules of Celery and kombu at the moment at which they are imported.

Patched any later, other modules would have bound the originals already. Imports nothing before Celery is imported:
a process of the user's that never does so pays for one small class and writes nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, whose import would cost every Python that a task starts some milliseconds
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: The first import of one of these opens the ledger.
FIRST = frozenset({"celery", "kombu"})

#: module of Celery or kombu → our modules whose ``patch(module)`` changes it.
TABLE = {
    "celery.app.amqp": ("hooks_publish",),
    "celery.app.base": ("hooks_publish", "hooks_beat", "hooks_valkey"),
    "celery.app.control": ("hooks_client",),
    "celery.app.log": ("hooks_log",),
    "celery.app.trace": ("hooks_task",),
    "celery.app.utils": ("overlay",),
    "celery.beat": ("hooks_beat",),
    "celery.backends.base": ("hooks_task", "hooks_request"),
    "celery.backends.redis": ("hooks_chord",),
    "celery.concurrency.asynpool": ("hooks_pool",),
    "celery.concurrency.prefork": ("hooks_pool",),
    "celery.platforms": ("hooks_shutdown",),
    "celery.result": ("hooks_client",),
    "celery.worker.consumer.consumer": ("hooks_consumer", "hooks_shutdown"),
    "celery.worker.consumer.mingle": ("hooks_control",),
    "celery.worker.request": ("hooks_request",),
    "celery.worker.state": ("hooks_request", "hooks_state"),
    "celery_redis_statedb.state": ("hooks_state",),
    "celery.worker.worker": ("hooks_shutdown",),
    "kombu.pidbox": ("hooks_control",),
    "kombu.transport.redis": ("hooks_transport", "hooks_restore", "hooks_publish"),
    "kombu.transport.virtual.base": ("hooks_transport", "hooks_restore"),
    "redis.connection": ("hooks_publish",),
    "valkey.connection": ("hooks_publish",),
}


class Finder:
    """Finds nothing itself: lets the others find, and hears when the module has been executed.

    :param table: module → our modules whose ``patch(module)`` changes it.
    :param first: the import of one of these opens the ledger.
    """

    def __init__(self, table: Mapping[str, tuple[str, ...]], first: Container[str] = ()) -> None:
        self.table = table
        self.first = first
        self.active = True

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.table and name not in self.first:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._listen(spec.loader, name)
                return spec  # type: ignore[no-any-return]
        return None

    def _listen(self, loader: Any, name: str) -> None:
        """Patch the module as soon as *loader* has executed it."""
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if not self.active or module.__name__ != name:  # a zip importer is one object for all its modules
                original(module)
                return
            if name in self.first:
                from .record import begin_from_environment

                begin_from_environment()
            original(module)
            self.patch(module)

        loader.exec_module = exec_module

    def patch(self, module: ModuleType) -> None:
        """Change one module that has been executed."""
        from importlib import import_module

        for ours in self.table.get(module.__name__, ()):
            try:
                import_module(f".{ours}", __package__).patch(module)
            except Exception as error:
                from .record import emit

                emit("hook_failed", hook=f"{module.__name__} ({ours})", error=repr(error))


def enter() -> None:
    """Called by ``sitecustomize`` when the process starts."""
    sys.meta_path.insert(0, Finder(TABLE, FIRST))
