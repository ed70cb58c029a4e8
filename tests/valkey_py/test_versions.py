"""Each Celery that valkey:// is made for, in an environment of its own: a worker, its results and a chord.

The client is this environment's: a message is the same whoever sends it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord
from extras import missing

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.errors import StartFailed
from pytest_celery_chaos.system.keeper import Keeper
from pytest_celery_chaos.workers.runtime import python_for

from .conftest import address
from .worker import start

#: Those between take an environment of their own and half a minute.
VERSIONS = ("5.5", pytest.param("5.6", marks=pytest.mark.soak), "5.7")


def python_of(version: str) -> Path:
    try:
        return python_for(version, ("valkey",))
    except StartFailed as error:
        missing(str(error))


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("prefix", ["", "shop:"], ids=["plain", "prefixed"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_of_that_version_works(
    version: str, prefix: str, pool: str, launch: Callable[..., LocalServer], keeper: Keeper, tmp_path: Path
) -> None:
    server = launch()
    options: dict[str, Any] = {"global_keyprefix": prefix, "visibility_timeout": 30}
    settings = {
        "broker_url": address(server, "valkey"),
        "result_backend": f"valkey+socket://{server.socket_path}?virtual_host=1",
        "broker_transport_options": options,
        "result_backend_transport_options": {"global_keyprefix": prefix},
    }
    child = start(keeper, settings, tmp_path, server, python=str(python_of(version)), pool=pool)
    app = Celery("client", set_as_current=False)
    app.conf.update(settings)

    def task(name: str, *args: Any) -> Any:
        return app.signature(f"shop.{name}", args=args)

    assert task("add", 1, 2).delay().get(timeout=20) == 3
    assert task("retried").delay().get(timeout=20) == 1
    assert chord([task("add", n, n) for n in range(10)], task("collect")).delay().get(timeout=20) == [
        2 * n for n in range(10)
    ]
    assert app.control.ping(timeout=5, limit=1)
    made = task("connections").delay().get(timeout=20)
    assert (made["redis"], made["valkey"] > 0) == (0, True)
    leave_results_alone(app.backend)
    keeper.end(child)


@pytest.mark.parametrize("version", ["5.4"])
def test_a_version_that_it_is_not_made_for_is_refused_with_a_reason(version: str, tmp_path: Path) -> None:
    code = "from pytest_celery_chaos import valkey; valkey.install()"
    (tmp_path / "pytest_celery_chaos").symlink_to(Path(__file__).parent.parent.parent / "pytest_celery_chaos")
    done = subprocess.run(
        [python_for(version), "-c", code],
        capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "valkey:// is made for kombu 5.5 to below 5.8, and 5.4 is installed" in done.stderr
