"""What the documentation of celery-redis-statedb says, against the package: where no run of workers can show it.

A claim that proved false is written down as what was found: such a test fails when a later version keeps the promise.
"""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from extras import need_statedb

from pytest_celery_chaos.system import ports

APP = """
from celery import Celery
from celery_redis_statedb import install_redis_statedb

app = Celery("proj", broker="redis://127.0.0.1:1/0")
install_redis_statedb(app)
"""


@pytest.fixture(autouse=True)
def package() -> Any:
    need_statedb()
    return pytest.importorskip("celery_redis_statedb")


def persistent(revoked: Any, client: Any) -> Any:
    """The package's own loader, over a store that answers what a Redis server would."""
    from celery_redis_statedb.state import RedisPersistent

    made = RedisPersistent.__new__(RedisPersistent)
    made.state, made.clock = SimpleNamespace(revoked=revoked), None
    made.redis_db = _database(client)
    return made


def _database(client: Any) -> Any:
    from celery_redis_statedb.state import RedisStateDB

    made = RedisStateDB("redis://127.0.0.1:1/15", "web@pod")
    made.redis_client = client
    return made


class Store:
    """The three commands of a Redis server that the package sends."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def pipeline(self) -> Store:
        return self

    def execute(self) -> None:
        return None

    def close(self) -> None:
        return None


def test_there_is_nothing_that_purges_old_revokes(package: Any) -> None:
    """F7: `purge_old_revoked_tasks(app, older_than, worker_name)` removes old ones and returns the count."""
    assert not hasattr(package, "purge_old_revoked_tasks")


def test_the_version_that_was_read() -> None:
    assert importlib.metadata.version("celery-redis-statedb").startswith("0.2.")


def test_an_address_given_as_statedb_ends_the_worker(tmp_path: Path) -> None:
    """F2: `--statedb=redis://…`. Celery takes it for a file; in a folder `redis:` that does not exist."""
    (tmp_path / "proj.py").write_text(APP)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "proj",
        "worker",
        "-P",
        "solo",
        "--statedb=redis://127.0.0.1:6379/0",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["proj.py"]


@pytest.mark.parametrize(
    "address", ["valkey://127.0.0.1:1/0", "unix:///tmp/redis.sock", "redis+socket:///tmp/redis.sock"]
)
def test_an_address_of_another_kind_is_passed_over_in_silence(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """A1: the worker starts without any state, and says nothing of it."""
    from celery_redis_statedb.bootstep import RedisStatePersistence

    with caplog.at_level(logging.DEBUG):
        assert not RedisStatePersistence(SimpleNamespace(), redis_statedb=address).enabled
    assert not caplog.records


def test_a_failed_read_and_a_failed_write_are_not_tried_again(refusing: tuple[int, list[Any]]) -> None:
    """F6: connection failures are handled "with retries". `max_retries` and `retry_delay` are kept and never used."""
    from celery.utils.collections import LimitedSet
    from celery_redis_statedb.state import RedisStateDB

    port, came = refusing
    database = RedisStateDB(f"redis://127.0.0.1:{port}/15", "web@pod", max_retries=5)
    assert database.get_zrevoked() is None
    reads = len(came)
    assert database.update(LimitedSet(), 1) is False
    assert (reads, len(came) - reads) == (1, 1)


def test_a_damaged_clock_ends_the_worker_and_damaged_ids_do_not() -> None:
    """F6: failures are handled gracefully. The error of a clock that is no number is not caught."""
    from celery.utils.collections import LimitedSet
    from kombu.clocks import LamportClock

    store = Store()
    store.kept = {"celery:worker:state:web@pod:zrevoked": b"damaged"}
    loader = persistent(LimitedSet(), store)
    loader.clock = LamportClock()
    loader.merge()
    store.kept["celery:worker:state:web@pod:clock"] = b"damaged"
    with pytest.raises(ValueError, match="damaged"):
        loader.merge()


def test_a_password_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """H7: logs carry no secrets. The package logs the address of its server as it is."""
    from celery.utils.collections import LimitedSet
    from celery_redis_statedb.state import RedisPersistent

    with caplog.at_level(logging.INFO):
        address = f"redis://:secret@127.0.0.1:{ports.free_port()}/15"
        RedisPersistent("web@pod", "state:", SimpleNamespace(revoked=LimitedSet()), address)
    assert ":secret@" in caplog.text


def test_a_revoke_of_a_machine_that_has_been_up_for_less_long_is_forgotten_at_once() -> None:
    """F7: "revoked tasks persist indefinitely". Their times are CLOCK_MONOTONIC, which begins with the machine."""
    from celery.utils.collections import LimitedSet

    store, expires = Store(), 10.0
    before = LimitedSet(expires=expires)
    before.add("job", now=1.0)  # revoked a second after its machine was booted
    assert _database(store).update(before, 1)
    here = LimitedSet(expires=expires)
    assert time.monotonic() > 1.0 + expires, "this machine was booted just now"
    persistent(here, store).merge()
    assert "job" not in here


def test_a_revoke_of_a_machine_that_has_been_up_for_longer_never_expires() -> None:
    from celery.utils.collections import LimitedSet

    store = Store()
    before = LimitedSet(expires=10.0)
    before.add("job", now=time.monotonic() + 1e6)  # revoked on a machine that has been up for eleven days more
    assert _database(store).update(before, 1)
    here = LimitedSet(expires=10.0)
    persistent(here, store).merge()
    here.purge(now=time.monotonic() + 5e5)
    assert "job" in here


def test_celery_counts_the_life_of_a_revoke_anew_when_it_reads_its_file(tmp_path: Path) -> None:
    """The same by Celery 5.7 itself: its file may come from another machine."""
    import celery
    from celery.worker import state

    if not hasattr(state, "merge_revoked"):
        pytest.skip(f"since Celery 5.7, and this is {celery.__version__}")

    before, here = state.revoked, type(state.revoked)(expires=10.0)
    try:
        state.revoked = type(before)(expires=1e9)
        state.revoked.add("job", now=1.0)
        state.Persistent(state, str(tmp_path / "a.state")).save()
        state.revoked = here
        state.Persistent(state, str(tmp_path / "a.state")).close()
        assert "job" in here
    finally:
        state.revoked = before


def test_the_limit_is_celerys_and_not_10000() -> None:
    """ "`LimitedSet` automatically purges expired items based on `maxlen` (default: 10000 items)"."""
    from celery.worker import state

    assert state.REVOKES_MAX == 50_000
