"""What the tests of servers share: every server of this machine, and a way to launch one that leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import server_needed

from pytest_celery_chaos.brokers.find import NAMES, Binary, available, find
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.system.keeper import Keeper

Launch = Callable[..., LocalServer]


def _on_path() -> list[Binary]:
    """Servers of the system's packages: tested where there are any, asked for nowhere."""
    return [binary for binary in available() if binary.source == "PATH"]


def required(name: str) -> Binary:
    """The server ``valkey-9.1``; without it the test is skipped, and in CI it fails."""
    server, _, version = name.partition("-")
    with server_needed():
        return find(server, version)  # type: ignore[arg-type]


@pytest.fixture(params=[*NAMES, *(f"{b.server}-{b.version} on PATH" for b in _on_path())])
def binary(request: pytest.FixtureRequest) -> Binary:
    """Each server in turn."""
    for there in _on_path():
        if request.param == f"{there.server}-{there.version} on PATH":
            return there
    return required(request.param)


@pytest.fixture
def any_binary() -> Binary:
    """One server, where the test is about something else."""
    return required(NAMES[0])


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture
def make(keeper: Keeper, tmp_path: Path, binary: Binary) -> Iterator[Launch]:
    """Make a server of the turn's binary, not started; all of them are closed at the end."""
    yield from _maker(keeper, tmp_path, binary)


@pytest.fixture
def make_any(keeper: Keeper, tmp_path: Path, any_binary: Binary) -> Iterator[Launch]:
    """The same with one binary only."""
    yield from _maker(keeper, tmp_path, any_binary)


def _maker(keeper: Keeper, folder: Path, binary: Binary) -> Iterator[Launch]:
    made: list[LocalServer] = []

    def make(name: str = "main", on_exit: Any = None, **spec: Any) -> LocalServer:
        described = BrokerSpec(name=name, server=binary.server, path=str(binary.path), **spec)
        server = LocalServer(described, keeper, folder / name, folder / f"{name}.log", on_exit=on_exit)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def launch(make: Launch) -> Launch:
    """Make a server and start it."""

    def launch(name: str = "main", **spec: Any) -> LocalServer:
        server = make(name, **spec)
        server.start()
        return server

    return launch
