"""A suite of a user's (``downstream/``): its own application, conftest and tests, run as its user would run it."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from extras import UV_PIP_INSTALL, missing, need_server
from started import PYTEST, clean_environment, run

from pytest_celery_chaos.workers.runtime import cache_folder

HERE = Path(__file__).parent
ROOT = HERE.parent
OURS = {"chaos", "chaos_app", "chaos_broker", "chaos_history"}
THEIRS = {"celery_worker", "celery_setup", "redisdb"}
BESIDE = ("pytest-celery>=1.2", "pytest-redis>=3")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A copy of the suite, so that its runs are not stored in ours."""
    need_server()
    ignored = shutil.ignore_patterns(".celery-chaos", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(HERE / "downstream", tmp_path / "downstream", ignore=ignored))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["", "-n 2"])
def test_it_passes(workers: tuple[str, ...], suite: Path) -> None:
    done = run(*PYTEST, "-vv", *workers, cwd=suite)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "test_a_charge_survives_its_worker",
        "test_a_greeting_arrives",
        "test_a_publish_to_another_broker_is_an_error",
        "test_charges_are_on_the_receipt_in_their_order",
        "test_without_chaos_nothing_is_started",
    ):
        assert re.search(rf"{name} PASSED|PASSED \S+::{name}\b", done.stdout), done.stdout
    assert "4 runs: 4 as recorded" in done.stdout


def test_a_worker_is_killed_under_a_task_in_at_most_ten_lines() -> None:
    tree = ast.parse((HERE / "downstream" / "tests" / "test_shop.py").read_text())
    (test,) = (node for node in tree.body if getattr(node, "name", "") == "test_a_charge_survives_its_worker")
    assert test.end_lineno is not None
    assert test.end_lineno - test.lineno + 1 <= 10


def test_collection_is_the_same_under_every_hash_seed(suite: Path) -> None:
    for folder in ("delivery", "groups", "network"):
        shutil.copytree(ROOT / "scenarios" / folder, suite / "tests" / "scenarios" / folder)
    collected = set()
    for seed in range(8):
        done = run(*PYTEST, "--collect-only", cwd=suite, env=clean_environment(PYTHONHASHSEED=str(seed)))
        assert done.returncode == 0, done.stdout
        collected.add(done.stdout.rpartition("\n\n")[0])
    assert len(collected) == 1
    assert collected.pop().count(".chaos.yaml::") > 10


POINTS = """
import pytest
from kombu.exceptions import OperationalError
from shop.tasks import app, greet

HOME = "redis://127.0.0.1:1/0"
small = pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})

def publish_at_home():
    assert app.conf.broker_url == HOME
    assert (app.connection_for_write().hostname, app.connection_for_write().port) == ("127.0.0.1", 1)
    with pytest.raises(OperationalError):
        greet.apply_async(["you"], retry=False, ignore_result=True)

def test_before():
    publish_at_home()

@small
def test_during(chaos_app, chaos_broker, chaos):
    assert chaos_app is app
    assert app.conf.broker_url == chaos_broker.url(0)
    assert app.backend.client.connection_pool.connection_kwargs["port"] == chaos_broker.port
    assert greet.delay("you").get(timeout=30) == "hello you"

def test_after():
    publish_at_home()

@small
@pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
def test_fails_while_it_is_bound(chaos):
    greet.delay("you")
    1 / 0

def test_after_a_failure():
    publish_at_home()
"""


def test_the_application_points_where_it_pointed_before(suite: Path) -> None:
    (suite / "tests" / "test_points.py").write_text(POINTS)
    done = run(*PYTEST, "-p", "no:randomly", "tests/test_points.py", cwd=suite)
    assert done.returncode == 0, done.stdout
    assert "4 passed, 1 xfailed" in done.stdout


ON_DEMAND = """
import pytest
from shop.tasks import greet

small = {"workers": {"a": {"pool": "solo", "profile": "fast"}}}

def clients(history):
    return {event.source for event in history.of("hello") if event.source.startswith("client:")}

@pytest.mark.chaos(**small)
def test_a_client_of_the_harness_is_started_when_a_verb_needs_it(chaos, chaos_history):
    assert greet.delay("you").get(timeout=30) == "hello you"
    assert clients(chaos_history()) == {"client:test"}
    chaos.send(task=greet.name, args=["me"], name="mine")
    chaos.wait(at="succeeded", task="mine")
    chaos.kill(client="main")
    assert clients(chaos_history()) == {"client:test", "client:main"}

@pytest.mark.chaos(clients={"main": {}}, **small)
def test_one_that_is_declared_is_there_from_the_beginning(chaos, chaos_history):
    assert "client:main" in clients(chaos_history())
    greet.delay("you").get(timeout=30)
"""


def test_a_client_process_that_nobody_needs_is_not_started(suite: Path) -> None:
    (suite / "tests" / "test_on_demand.py").write_text(ON_DEMAND)
    done = run(*PYTEST, "tests/test_on_demand.py", cwd=suite)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_there_is_no_clash_with_other_plugins(suite: Path) -> None:
    python = python_with_others()
    (suite / "names.py").write_text(NAMES)
    argv = (str(python), *PYTEST[1:], "-p", "celery.contrib.pytest")
    listed = run(*argv, "-s", "-p", "names", "--collect-only", cwd=suite, env=clean_environment(PYTHONPATH=str(suite)))
    lines = [line.split()[1:] for line in listed.stdout.splitlines() if line.startswith("FIXTURE ")]
    by_name = {name: modules for name, *modules in lines}
    assert {name: by_name[name] for name in OURS} == {name: ["pytest_celery_chaos.fixtures"] for name in OURS}
    assert all(by_name[name] for name in THEIRS), f"the other plugins are not at work: {by_name}"
    done = run(*argv, cwd=suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


#: `pytest --fixtures` breaks where two plugins define a fixture in the same place, as pytest-celery and Celery do.
NAMES = f"""
def pytest_collection_finish(session):
    for name in {sorted(OURS) + sorted(THEIRS)!r}:
        found = session._fixturemanager.getfixturedefs(name, session.items[0]) or ()
        print("FIXTURE", name, *(each.func.__module__ for each in found))
"""


def python_with_others() -> Path:
    """The Python of an environment with this package and other plugins of Celery's and Redis's, made at first use."""
    key = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr((BESIDE, str(ROOT))).encode()).hexdigest()[:12]
    version = ".".join(map(str, sys.version_info[:2]))
    folder = cache_folder() / "tests" / f"beside-{key}-py{version}"
    made = folder / "made"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not made.exists():
            need_package_index()
            shutil.rmtree(folder, ignore_errors=True)
            checked(sys.executable, "-m", "venv", "--without-pip", str(folder))
            checked(*UV_PIP_INSTALL, "--python", str(folder / "bin" / "python"), "-e", str(ROOT), *BESIDE)
            made.touch()
    return folder / "bin" / "python"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def need_package_index() -> None:
    """Without a package index the test is skipped, and in CI it fails."""
    asked = run(sys.executable, "-m", "pip", "index", "versions", "pytest-redis", cwd=ROOT)
    if asked.returncode != 0:
        missing(f"no package index: {asked.stderr}")


def checked(*argv: str) -> None:
    done = run(*argv, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
