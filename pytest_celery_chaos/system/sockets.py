"""Whose a TCP connection is, seen from outside: by /proc, without asking the process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")


def owners(port: int, processes: Mapping[int, str]) -> dict[int, str]:
    """For each connection to *port* of this machine, by its own port: the name of the process that has it open.

    :param processes: by process id, what to call it. What several have open (forked with it) is the last one's named.
    :returns: own port → name; without the connections of other processes.
    """
    inodes = _connections_to(port)
    found: dict[int, str] = {}
    for pid, name in processes.items():
        for inode in _sockets_of(pid) & inodes.keys():
            found[inodes[inode]] = name
    return found


def _connections_to(port: int) -> dict[str, int]:
    """Inodes of the sockets whose other end is *port*, and their own port."""
    found = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                local, remote, inode = columns[1], columns[2], columns[9]
                if int(remote.rpartition(":")[2], 16) == port:
                    found[inode] = int(local.rpartition(":")[2], 16)
    return found


def _sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open; none where it is gone."""
    found = set()
    with contextlib.suppress(OSError):
        for handle in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(handle.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
