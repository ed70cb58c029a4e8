"""What a worker knows of revokes when it begins, and what it writes down when it goes."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.errors import StartFailed
from pytest_celery_chaos.system import ports
from pytest_celery_chaos.workers.runtime import python_for
from pytest_celery_chaos.workers.statedb import REQUIREMENT

from .conftest import missing
from .lab import FAST, POOLS, SOAK, VERSIONS, Lab, Process

KEY = b"celery:worker:state:a@lab:"
#: Every pool with the newest Celery, and every other version with one.
MATRIX = [
    *(("5.7", pool) for pool in POOLS),
    ("5.3", "prefork"),
    *(pytest.param(version, "prefork", marks=SOAK) for version in VERSIONS[1:-1]),
]


def revoke(lab: Lab, worker: Process, *ids: str) -> None:
    lab.client().control.revoke(list(ids), reply=False)
    worker.until("revoke", "ok")


def redis_worker(
    lab: Lab, version: str = "5.7", pool: str = "prefork", *, address: str = "", name: str = "a"
) -> Process:
    try:
        python_for(version, (REQUIREMENT,))
    except StartFailed as error:
        missing(str(error))
    return lab.worker(
        version,
        pool,
        name=name,
        options=[*FAST, "--redis-statedb", address or lab.server.url(15)],
        env={"CELERY_CHAOS_STATEDB": "1"},
        packages=(REQUIREMENT,),
    )


def told(worker: Process, kind: str) -> list[tuple[str | None, str, list[str]]]:
    return [(e.phase, e.attrs["store"], sorted(e.attrs.get("ids", ()))) for e in worker.of(kind)]


@pytest.mark.parametrize(("version", "pool"), MATRIX)
def test_a_file_of_revoked_ids_is_told_when_it_is_read_and_when_it_is_written(
    lab: Lab, version: str, pool: str, tmp_path: Path
) -> None:
    options = [*FAST, "--statedb", str(tmp_path / "a.state")]
    first = lab.worker(version, pool, options=options)
    assert told(first, "revoked_loaded") == [("invoke", "file", []), ("ok", "file", [])]
    assert first.of("ready")[0].attrs["revoked"] == {"count": 0, "ids": []}
    revoke(lab, first, "r-1", "r-2")
    first.stop()
    assert told(first, "revoked_saved") == [("invoke", "file", []), ("ok", "file", ["r-1", "r-2"])]

    second = lab.worker(version, pool, options=options)
    assert told(second, "revoked_loaded")[-1] == ("ok", "file", ["r-1", "r-2"])
    known = second.of("ready")[0].attrs["revoked"]
    assert (known["count"], sorted(known["ids"])) == (2, ["r-1", "r-2"])
    second.kill()
    assert not second.of("revoked_saved")
    assert not [e for e in first.events + second.events if e.kind.startswith("hook_")]


@pytest.mark.parametrize(("version", "pool"), MATRIX)
def test_revoked_ids_in_redis_are_told_the_same(lab: Lab, version: str, pool: str) -> None:
    first = redis_worker(lab, version, pool)
    assert told(first, "revoked_loaded") == [("invoke", "redis", []), ("ok", "redis", [])]
    assert first.of("revoked_loaded")[0].attrs["key"] == KEY.decode()
    revoke(lab, first, "r-1", "r-2")
    first.stop()
    assert told(first, "revoked_saved") == [("invoke", "redis", []), ("ok", "redis", ["r-1", "r-2"])]
    store = lab.server.client(15)
    assert sorted(store.keys()) == [KEY + b"clock", KEY + b"zrevoked"]
    assert sorted(pickle.loads(zlib.decompress(store.get(KEY + b"zrevoked")))) == ["r-1", "r-2"]

    second = redis_worker(lab, version, pool)
    assert told(second, "revoked_loaded")[-1] == ("ok", "redis", ["r-1", "r-2"])
    assert second.of("ready")[0].attrs["revoked"]["count"] == 2
    assert not [e for e in first.events + second.events if e.kind.startswith("hook_")]


def test_an_application_of_the_users_own_that_installs_it(lab: Lab, tmp_path: Path) -> None:
    app = """
from celery import Celery
from celery_redis_statedb import install_redis_statedb

app = Celery("proj", broker="redis://127.0.0.1:1/0")
app.conf.redis_state_key_prefix = "theirs:"
install_redis_statedb(app)
"""
    (tmp_path / "proj.py").write_text(app)
    options = [*FAST, "--redis-statedb", lab.server.url(15)]
    how: dict[str, Any] = {"app": "proj:app", "path": tmp_path, "options": options, "packages": (REQUIREMENT,)}
    first = lab.worker("5.7", "solo", **how)
    revoke(lab, first, "r-1")
    first.stop()
    assert lab.server.client(15).exists("theirs:a@lab:zrevoked")
    assert lab.worker("5.7", "solo", **how).of("ready")[0].attrs["revoked"] == {"count": 1, "ids": ["r-1"]}


def test_errors_that_the_package_swallows_are_told(lab: Lab) -> None:
    nowhere = redis_worker(lab, pool="solo", address=f"redis://127.0.0.1:{ports.free_port()}/15")
    failed = nowhere.of("revoked_loaded", "fail")[0]
    assert failed.attrs["error"].startswith("ConnectionError")
    nowhere.stop()
    assert [e.phase for e in nowhere.of("revoked_saved")] == ["invoke", "fail"]

    lab.server.client(15).set(KEY + b"zrevoked", b"damaged")
    damaged = redis_worker(lab, pool="solo")
    assert damaged.of("revoked_loaded", "fail")[0].attrs["error"] == "unreadable"


def test_a_worker_that_begins_tells_its_neighbours_what_it_knows(lab: Lab, tmp_path: Path) -> None:
    options = ["--statedb", str(tmp_path / "a.state")]
    first = lab.worker("5.7", "solo", options=options)
    revoke(lab, first, "r-1")
    first.stop()
    neighbour = lab.worker("5.7", "solo", name="b", options=())
    lab.worker("5.7", "solo", options=options)
    heard = neighbour.until("revoke", "ok")
    assert (heard.attrs["method"], heard.attrs["ids"]) == ("hello", ["r-1"])


def test_two_workers_of_one_name_are_warned_of_by_the_third(lab: Lab) -> None:
    twins = [lab.worker("5.7", "solo", options=()) for _ in range(2)]
    third = lab.worker("5.7", "solo", name="c", options=())
    warned = third.until("warned")
    assert warned.attrs["category"] == "DuplicateNodenameWarning"
    assert not [event for twin in twins for event in twin.of("warned")]
