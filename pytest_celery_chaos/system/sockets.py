"""Whose a TCP connection is, seen from outside: by /proc, without asking the process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

#: Servers listen on 127.0.0.1 alone: there is no other way to them than this table's (and the kernel makes it slowly).
_TABLE = Path("/proc/net/tcp")


def owners(port: int, processes: Mapping[int, str]) -> dict[int, str]:
    """For each connection to *port* of this machine, by its own port: the name of the process that has it open.

    :param processes: by process id, what to call it. What several have open (forked with it) is the last one's named.
    :returns: own port → name; without the connections of other processes.
    """
    inodes = _connections_to(port)
    found: dict[int, str] = {}
    for pid, name in processes.items() if inodes else ():
        for inode in _sockets_of(pid) & inodes.keys():
            found[inodes[inode]] = name
    return found


def ports_to(port: int) -> set[int]:
    """The own ports of all that is connected to *port* of this machine."""
    return set(_connections_to(port).values())


def _connections_to(port: int) -> dict[str, int]:
    """Inodes of the sockets whose other end is *port*, and their own port."""
    found = {}
    end = f":{port:04X}"
    for line in _TABLE.read_text().splitlines()[1:]:
        if end in line:
            columns = line.split(maxsplit=10)
            local, remote, inode = columns[1], columns[2], columns[9]
            if remote.endswith(end):
                found[f"socket:[{inode}]"] = int(local.rpartition(":")[2], 16)
    return found


def _sockets_of(pid: int) -> set[str]:
    """What a process has open, as the links in /proc say it; nothing where it is gone."""
    found = set()
    with contextlib.suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(handle.readlink()))
    return found
