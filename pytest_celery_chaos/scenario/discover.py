"""Where scenario files are found: among given paths, or those that ship with the package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest_celery_chaos
from pytest_celery_chaos.errors import ScenarioError

SUFFIX: Final = ".chaos.yaml"


def shipped() -> Path:
    """The folder of the scenarios that come with the package.

    In a wheel they lie inside the package; in an editable install at the top level of the repository.

    :raises ScenarioError: there is neither.
    """
    package = Path(pytest_celery_chaos.__file__).parent
    for folder in (package / "_scenarios", package.parent / "scenarios"):
        if folder.is_dir():
            return folder
    raise ScenarioError("the scenarios of the package are missing", where=str(package), hint="install it again")


def discover(paths: Iterable[Path | str] = ()) -> list[Path]:
    """The scenario files under *paths*, in the order given and sorted below each; each file once.

    :param paths: files, whatever their name, or folders; none: the shipped ones.
    :raises ScenarioError: a path does not exist, or a folder holds no scenario.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths or [shipped()]):
        if path.is_dir():
            inside = sorted(each for each in path.rglob(f"*{SUFFIX}") if each.is_file())
            if not inside:
                raise ScenarioError("holds no scenario", where=str(path), hint=f"name files or folders of *{SUFFIX}")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise ScenarioError("there is no such file", where=str(path), hint="check the path")
    return list(found)
