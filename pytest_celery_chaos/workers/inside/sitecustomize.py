"""Python imports this at start when its folder is on PYTHONPATH: the door through which the recorder enters.

Without ``CELERY_CHAOS_LEDGERS`` it only makes way for the `sitecustomize` that it shadows.
"""

import os
import sys


def _shadowed() -> None:
    """Run the `sitecustomize` that Python would have found without us, as if we were not there."""
    # These, unlike importlib.machinery and importlib.util, are loaded already: every Python that a task starts pays.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

    here = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 - pathlib would cost every start some ms
    elsewhere = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]
    spec = PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("CELERY_CHAOS_LEDGERS"):
    from celery_chaos_recorder import imports  # type: ignore[import-not-found]

    imports.enter()

_shadowed()

_go = os.environ.pop("CELERY_CHAOS_GO", None)
if _go is not None and os.path.basename(sys.argv[0]) == "celery":  # noqa: PTH119 - and no program of an entrypoint's
    from celery_chaos_forkserver import await_go  # type: ignore[import-not-found]

    await_go(_go)
