"""Makes ``valkey://`` known to an application that does not do so itself, where the run's addresses are such."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

#: By a name of its own: the package that it is part of need not be installed here.
_NAME = "celery_chaos_valkey"


def patch(module: ModuleType) -> None:
    """Called for ``celery.app.base``, of which nothing is changed: no application has been made yet.

    Where it cannot be done the process ends with the reason: all that Celery would say is that there is no such
    transport.
    """
    folder = os.environ.get("CELERY_CHAOS_VALKEY")
    if not folder:
        return
    try:
        spec = spec_from_file_location(_NAME, f"{folder}/__init__.py", submodule_search_locations=[folder])
        assert spec is not None
        assert spec.loader is not None
        package = sys.modules[_NAME] = module_from_spec(spec)
        spec.loader.exec_module(package)
        package.install()
    except Exception as error:
        raise SystemExit(f"celery-chaos: {error}") from error
