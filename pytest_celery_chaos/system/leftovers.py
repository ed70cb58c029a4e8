"""What a process that was killed leaves on disk: runs that nobody will finish, and temporary folders.

On the standard library alone, because the keeper process uses it (see :mod:`~pytest_celery_chaos.system.keeper_main`).
"""

# pathlib would double the time that the keeper's imports take.
# ruff: noqa: PTH101, PTH105, PTH106, PTH108, PTH118, PTH119, PTH123

from __future__ import annotations

import contextlib
import json
import os


def mark_interrupted(folder: str, reason: str) -> None:
    """Rewrite the ``run.json`` of a run that nobody will finish; a finished one, or a folder that is gone, stays."""
    path = os.path.join(folder, "run.json")
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        record = None  # killed before it was written
    if not isinstance(record, dict):
        record = {"id": os.path.basename(folder)}
    if record.get("status") == "finished":
        return
    record.update(status="interrupted", ended_by=reason)
    with contextlib.suppress(OSError):  # the folder is gone or the disk is full: nobody is left to be told
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(path + ".new", path)


def remove_tree(path: str) -> None:
    """Remove a folder with all in it, as far as the file system allows; links are removed, not followed."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
