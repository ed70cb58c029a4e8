"""Starts a worker of shop.py."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Child, Keeper

HERE = Path(__file__).parent
FAST = ("--without-mingle", "--without-gossip", "--without-heartbeat")


def start(
    keeper: Keeper,
    settings: dict[str, Any],
    folder: Path,
    server: LocalServer,
    *,
    python: str = sys.executable,
    pool: str = "prefork",
    options: Sequence[str] = FAST,
) -> Child:
    """A worker that has said ready and has subscribed to remote control."""
    package = folder / "package"  # the project's source for an environment in which it is not installed
    package.mkdir()
    (package / "pytest_celery_chaos").symlink_to(HERE.parent.parent / "pytest_celery_chaos")
    (package / "shop.py").symlink_to(HERE / "shop.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(package), "SHOP_SETTINGS": json.dumps(settings)}
    command = [python, "-m", "celery", "-A", "shop", "worker", "-l", "INFO", "-P", pool, "-c", "2", *options]
    log = folder / "log"
    child = keeper.spawn("worker", command, env=environment, cwd=folder, log=log)

    def said() -> str:
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""

    def ready() -> bool:
        assert child.alive, said()
        listening = sum(int(client["psub"]) > 0 for client in server.client(0).client_list())
        return " ready." in log.read_text(errors="replace") and listening > 0

    wait.until(ready, what="the worker", timeout=30, every=0.05, last=said)
    return child
