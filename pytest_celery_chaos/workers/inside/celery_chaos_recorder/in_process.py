"""The recorder in the test process: for the length of one test, and gone after it.

Celery may be imported already, and the user's application may have published. No worker runs here, so only
publishing, reading of results, remote control and settings are changed.
"""

from __future__ import annotations

import sys
from typing import Any

from . import overlay, record
from .imports import Finder
from .patches import undo

_HOOKS = {
    "celery.app.amqp": ("hooks_publish",),
    "celery.app.base": ("hooks_publish",),
    "celery.app.control": ("hooks_client",),
    "celery.app.utils": ("overlay",),
    "celery.result": ("hooks_client",),
    "kombu.transport.redis": ("hooks_publish",),
    "redis.connection": ("hooks_publish",),
    "valkey.connection": ("hooks_publish",),
}

_finder: Finder | None = None


def install(folder: str, source: str, control: str | None = None) -> None:
    """Record this process from now on.

    :param folder: for the ledger.
    :param source: ``client:test``, as events shall name it.
    :param control: the folder of ``control`` and ``gate.sock``; None: nothing is held.
    """
    global _finder
    if _finder is not None:
        raise RuntimeError("the recorder is installed already: call uninstall() first")
    record.begin(folder, source, control, "test")
    _finder = Finder(_HOOKS)
    for name in _HOOKS:
        module = sys.modules.get(name)
        if module is not None:
            _finder.patch(module)
    sys.meta_path.insert(0, _finder)
    from . import hooks_publish

    hooks_publish.cached_senders(hooks_publish.recorded)


def uninstall() -> None:
    """Put everything back as it was, and close the ledger. Without :func:`install` it does nothing."""
    global _finder
    finder, _finder = _finder, None
    if finder is None:
        return
    finder.active = False
    sys.meta_path.remove(finder)
    from . import hooks_publish

    hooks_publish.cached_senders(_unrecorded)
    overlay.clear()
    undo()
    record.end()


def _unrecorded(sender: Any) -> Any:
    return getattr(sender, "recorded", None)
