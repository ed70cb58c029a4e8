"""Tests of what an extra or a server brings skip where it is not installed, and fail in CI."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.errors import ServerNotFound

#: Installs for a test, in a second where pip takes ten; trusts whom the machine trusts, as pip does.
UV_PIP_INSTALL = (sys.executable, "-m", "uv", "--quiet", "--native-tls", "pip", "install")


def missing(reason: str) -> NoReturn:
    """Skip where something is not installed; in CI nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need_statedb() -> None:
    """The package celery-redis-statedb, of the extra ``statedb``."""
    if importlib.util.find_spec("celery_redis_statedb") is None:
        missing("celery-redis-statedb is not installed: pip install pytest-celery-chaos[statedb]")


def need_valkey() -> None:
    """valkey-py, of the extra ``valkey``. No folder of tests may be called ``valkey``: it would be imported instead."""
    if importlib.util.find_spec("valkey") is None:
        missing("valkey-py is not installed: pip install pytest-celery-chaos[valkey]")


@contextmanager
def server_needed() -> Iterator[None]:
    """Around what looks for a server."""
    try:
        yield
    except ServerNotFound as error:
        missing(str(error))


def need_server() -> None:
    """Any server at all."""
    with server_needed():
        find("valkey", None)


def engine_needed(*images: str) -> None:
    """A container engine that has these images: they are never pulled by a test."""
    from pytest_celery_chaos.system.engine import connect

    with server_needed():
        docker = connect().client
    try:
        for image in images:
            if not docker.images.list(image):
                missing(f"no image {image}: tests/images/build")
    finally:
        docker.close()
