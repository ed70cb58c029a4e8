"""Removes what a session has left in a container engine, by the label that all of it carries: Ryuk's work, without it.

On the standard library alone, because the keeper process uses it (see :mod:`~pytest_celery_chaos.system.keeper_main`);
imported there only when a session has had containers. The engine's API: https://docs.docker.com/engine/api/v1.41/.
"""

from __future__ import annotations

import functools
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS = 10.0
"""How long one request may take."""
PAUSE = 0.4
"""Between two looks; an engine makes a container in some 20 ms, and starts one in 200."""


def remove(address: str, label: str, *, looks: int = 1) -> None:
    """Remove every container, network and volume with that label, the containers at the same time.

    :param address: the engine's, as in DOCKER_HOST.
    :param looks: how often, :data:`PAUSE` seconds apart: what somebody had asked for who died may appear only later.
    """
    filters = f"%7B%22label%22%3A%5B%22{label}%22%5D%7D"  # {"label":["…"]}
    for look in range(looks):
        time.sleep(PAUSE if look else 0)
        found = _ask(address, "GET", f"/containers/json?all=1&filters={filters}") or []
        _each([functools.partial(_ask, address, "DELETE", f"/containers/{one['Id']}?force=1&v=1") for one in found])
        for one in _ask(address, "GET", f"/networks?filters={filters}") or []:
            _ask(address, "DELETE", f"/networks/{one['Id']}")
        for one in (_ask(address, "GET", f"/volumes?filters={filters}") or {}).get("Volumes") or []:
            _ask(address, "DELETE", f"/volumes/{one['Name']}?force=1")


def _each(calls: list[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)


def _ask(address: str, method: str, path: str) -> Any:
    """One request. As HTTP/1.0, so that the answer ends with the connection; http.client takes 100 ms to import."""
    try:
        with _connect(address) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        # Else it is gone, or being removed by somebody else, or cannot be: whoever asks has nobody left to tell.
        return json.loads(body) if body and int(head.split(maxsplit=2)[1]) < 400 else None
    except (OSError, ValueError, IndexError):
        return None


def _connect(address: str) -> socket.socket:
    """To ``unix:///var/run/docker.sock`` or ``tcp://127.0.0.1:2375``."""
    scheme, _, rest = address.partition("://")
    if scheme != "unix":
        host, _, port = rest.rstrip("/").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    connection.connect(rest)
    return connection
