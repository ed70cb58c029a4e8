"""Reading the process tree works on kernels without ``/proc/PID/task/TID/children``, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_celery_chaos.system import keeper_main, tree
from pytest_celery_chaos.system.keeper import Keeper

from .conftest import Script
from .test_keeper import pool


def test_the_keeper_needs_nothing_but_the_standard_library() -> None:
    source = Path(keeper_main.__file__).read_text()
    assert "pytest_celery_chaos." not in source.split('"""', 2)[2], "it runs under -I -S"


def test_both_ways_to_read_the_tree_agree(script: Script, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    child, members = pool(script)
    read = tree.descendants(keeper.pid)
    assert sorted(read) == sorted([child.pid, *members])
    monkeypatch.setattr(tree, "_HAS_CHILDREN_FILE", False)
    assert sorted(tree.descendants(keeper.pid)) == sorted(read)
    assert tree.descendants(keeper.pid, spared=[child.pid]) == []
    assert tree.parent_of(members[0]) == child.pid
    assert tree.parent_of(2**22 + 1) == 0
    assert os.getppid() == tree.parent_of(os.getpid())
