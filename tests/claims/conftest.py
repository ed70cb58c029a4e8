"""A server for claims about addresses and transport options."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import ServerNotFound
from pytest_celery_chaos.system.keeper import Keeper


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """A Valkey of its own for each test; without one the test is skipped, and in CI it fails."""
    try:
        find("valkey", None)
    except ServerNotFound as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with Keeper() as keeper:
        server = LocalServer(BrokerSpec(), keeper, tmp_path / "server", tmp_path / "server.log")
        server.start()
        yield server
        server.close()
