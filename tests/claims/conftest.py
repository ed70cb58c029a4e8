"""A server for claims about addresses and transport options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import need_server

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
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
