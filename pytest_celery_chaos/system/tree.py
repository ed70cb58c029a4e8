"""The tree of processes, as /proc has it. On the standard library alone, for the keeper."""

# ruff: noqa: PTH110, PTH123, PTH208

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

_HAS_CHILDREN_FILE = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children_of(pid: int) -> list[int]:
    """The direct children of *pid*, zombies included; empty when *pid* is gone."""
    if not _HAS_CHILDREN_FILE:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and parent_of(int(entry)) == pid]
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end while we look
        for task in os.listdir(f"/proc/{pid}/task"):  # any thread may have forked
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    return found


def parent_of(pid: int) -> int:
    """The parent of *pid*, 0 when there is none."""
    with contextlib.suppress(OSError):
        return int(_stat(f"/proc/{pid}")[1])
    return 0


def descendants(pid: int, spared: Collection[int] = ()) -> list[int]:
    """All that descends from *pid*, parents before children, without the *spared* and what descends from them."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        fresh = [child for child in children_of(ahead.pop()) if child not in spared]
        found += fresh
        ahead += fresh
    return found


def group_of(pid: int) -> int:
    """The process group of *pid*, 0 when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def stands_still(pid: int) -> bool:
    """Whether a process to whose group SIGSTOP was sent has stopped, and all of the group that descends from it.

    The signal is sent before it has its effect: who runs on another processor goes on until that is interrupted. One
    that cannot be interrupted (D: a fork by vfork whose child has stopped) does nothing either.
    """
    group = group_of(pid)
    return all(_state(each) in "TtZXD" for each in [pid, *descendants(pid)] if group_of(each) == group)


def _state(pid: int) -> str:
    """The state of a process as a letter: R, if any of its threads runs; X, if it is gone."""
    states = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                states.append(_stat(f"/proc/{pid}/task/{task}")[0].decode())
    for letter in "RS":
        if letter in states:
            return letter
    return states[0] if states else "X"


def _stat(folder: str) -> list[bytes]:
    """What the kernel tells of a process or thread, behind its name, which may hold anything: state, parent …"""
    with open(f"{folder}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
