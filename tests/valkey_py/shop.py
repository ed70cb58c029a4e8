"""The application that the workers of these tests run; its addresses come from the environment."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery

from pytest_celery_chaos import valkey

valkey.install()
app = Celery("shop")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))


def clients() -> dict[str, int]:
    """How many connections of each client library this process has made."""
    found = {}
    for name, place in (("redis", "redis.connection"), ("valkey", "valkey.connection")):
        if place in sys.modules:
            found[name] = made.get(name, 0)
    return found


made: dict[str, int] = {}


def count(name: str, kind: Any) -> None:
    original = kind._connect

    def connect(self: Any) -> Any:
        made[name] = made.get(name, 0) + 1
        return original(self)

    kind._connect = connect


def count_all() -> None:
    import redis.connection
    import valkey.connection

    for name, module in (("redis", redis.connection), ("valkey", valkey.connection)):
        for kind in (module.Connection, module.UnixDomainSocketConnection):
            count(name, kind)


count_all()


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def collect(values: list[Any]) -> list[Any]:
    return values


@app.task
def late(value: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return value


@app.task
def fail() -> None:
    raise ValueError("no stock")


@app.task
def connections() -> dict[str, int]:
    app.backend.get("anything")  # a child of a pool's has none of its own before its first result
    return clients()


@app.task(bind=True, acks_late=True)
def retried(self: Any) -> int:
    if not self.request.retries:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)
