"""Free TCP ports of the loopback interface that stay free for their broker while it is down.

A broker is killed and must come back on the same port, while other test processes on the machine look for ports of
their own. So the port is held by a socket that is bound and never listens. The kernel then gives it to nobody who
asks for any port, to no outgoing connection, and to no other holder, while a server that sets ``SO_REUSEADDR`` (Redis,
Valkey, Go and asyncio all do) may still bind it, see ``socket(7)``. The hold ends with this process, whatever ends it.
"""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from pytest_celery_chaos.errors import StartFailed

LOOPBACK = "127.0.0.1"
LOWEST = 20000
MOST_HELD = 256
"""Ports held at once; the oldest is let go beyond them, so that a long session does not run out of files."""

_held: dict[int, socket.socket] = {}
_lock = threading.Lock()
_random = random.SystemRandom()  # a seeded generator would send all xdist workers to the same ports


def free_port() -> int:
    """Reserve a port of 127.0.0.1, below those that the kernel gives to outgoing connections where there is room.

    Below them, so that a client which retries cannot connect to itself.

    :raises StartFailed: if no port can be bound.
    """
    for _ in range(200):
        holder = socket.socket()
        try:
            holder.bind((LOOPBACK, _candidate()))  # without SO_REUSEADDR: fails if anybody has or holds it
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # from now on a server may share it
        except OSError:
            holder.close()
            continue
        port: int = holder.getsockname()[1]
        with _lock:
            _held[port] = holder
            oldest = next(iter(_held)) if len(_held) > MOST_HELD else None
        if oldest is not None:
            release_port(oldest)
        return port
    raise StartFailed(f"no free port on {LOOPBACK}", hint="look at `ss -ltn` for what occupies them")


def release_port(port: int) -> None:
    """Let go of a port of :func:`free_port`, once its broker will not come back; unknown ports are ignored."""
    with _lock:
        holder = _held.pop(port, None)
    if holder is not None:
        holder.close()


def _candidate() -> int:
    try:
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 0
    return _random.randrange(LOWEST, first_ephemeral) if first_ephemeral > LOWEST + 1000 else 0
