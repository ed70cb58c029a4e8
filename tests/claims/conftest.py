"""Servers for claims that it takes no worker to see: one that works, and one that hangs up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import need_server

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.system import ports
from pytest_celery_chaos.system.keeper import Keeper


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """A Valkey of its own for each test; without one the test is skipped, and in CI it fails."""
    need_server()
    with Keeper() as keeper:
        server = LocalServer(BrokerSpec(), keeper, tmp_path / "server", tmp_path / "server.log")
        server.start()
        yield server
        server.close()


@pytest.fixture
def refusing() -> Iterator[tuple[int, list[Any]]]:
    """A server that hangs up on everybody, and the list of who came."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", ports.free_port())) as server:

        def serve() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                came.append(address)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
