"""A server and a laboratory for the tests of the recorder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import missing

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.gate import Gate
from pytest_celery_chaos.errors import ServerNotFound, StartFailed
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.workers.runtime import python_for

from .lab import BETWEEN, VERSIONS, Lab


@pytest.fixture(scope="session")
def environments() -> None:
    """The environments of the Celery versions that are tried without being asked for."""
    try:
        for version in VERSIONS:
            if version not in BETWEEN:
                python_for(version)
    except StartFailed as error:
        missing(str(error))


@pytest.fixture(scope="session")
def lab_keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture(scope="session")
def lab_server(lab_keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("server")
    try:
        server = LocalServer(BrokerSpec(server="redis"), lab_keeper, folder / "data", folder / "log")
    except ServerNotFound:
        try:
            server = LocalServer(BrokerSpec(server="valkey"), lab_keeper, folder / "data", folder / "log")
        except ServerNotFound as error:
            missing(str(error))
    server.start()
    yield server
    server.close()


@pytest.fixture
def lab(environments: None, lab_keeper: Keeper, lab_server: LocalServer, tmp_path: Path) -> Iterator[Lab]:
    """Starts real workers; all of them are gone when the test ends."""
    lab_server.client(0).flushall()
    control = lab_keeper.temp_folder()
    gate = Gate(control, lambda *_, **__: None)  # type: ignore[arg-type]
    laboratory = Lab(lab_keeper, lab_server, tmp_path, control, gate)
    yield laboratory
    laboratory.close()
    laboratory.gate.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: the larger matrices; run with -m soak")
