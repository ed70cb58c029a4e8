"""The test process's own application: bound to the test's broker for one test, and as before afterwards."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
from extras import server_needed

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.clients.rebind import Rebound
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Keeper

APP = (
    "from celery import Celery\napp = Celery('shop', broker='redis://elsewhere:1/0', backend='redis://elsewhere:1/1')\n"
)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's application, as ``celery -A`` takes it."""
    (tmp_path / "bound_shop.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bound_shop", raising=False)
    return "bound_shop:app"


def test_a_result_that_outlives_its_server_is_collected_in_silence(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be collected in any later test; unsubscribing from a server that is gone would raise there."""
    raised = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    for folder in ("ledgers", "control"):
        (tmp_path / folder).mkdir()
    with Keeper() as keeper:
        with server_needed():
            server = LocalServer(BrokerSpec(), keeper, tmp_path / "data", tmp_path / "log")
        server.start()
        settings = {"broker_url": server.url(0), "result_backend": server.url(1)}
        with Rebound(target, settings, ledgers=tmp_path / "ledgers", control=tmp_path / "control") as app:
            theirs = app.backend
            result: Any = app.send_task("pack")
            theirs.store_result(result.id, 3, "SUCCESS")
            assert result.get(timeout=5) == 3
            waiting = app.send_task("never")
            assert server.client(1).pubsub_numsub(b"celery-task-meta-" + waiting.id.encode())[0][1] == 1
            kept = [result, waiting]
            kept.append(kept)  # a cycle, as a traceback makes one
        assert app.backend is not theirs
        assert "elsewhere" in app.backend.as_uri()
        wait.until(lambda: not server.client(1).pubsub_channels(), what="nothing to be subscribed to", timeout=5)
        server.close()
    del result, waiting, kept
    gc.collect()
    assert not raised
