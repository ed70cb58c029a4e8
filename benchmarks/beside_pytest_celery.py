"""From a fresh environment to the first task done, beside pytest-celery: the same images, worker and machine.

    python benchmarks/beside_pytest_celery.py [--rounds 5] [--profile fast --profile default] [--json]

pytest-celery 1.3.0 is installed into an environment of its own in the cache folder, and given what ours is given: the
same Redis image, the same worker image (Celery and nothing else), the same options of the worker (prefork, one pool
process, INFO), a broker and a backend in a container each. It is used as its documentation has it: `celery_setup`, a
task, `get()`. Images are there before time runs, and nothing is built: pytest-celery, which builds its worker's image
in a fixture, is given the ready one instead.

Each round is one pytest process a case, with two tests, in turn. Three times are taken of it, in milliseconds:

process  from the start of pytest until the first test has its result: imports and plugins of both, too
first    from the start of the first test's set-up until it has its result. pytest-celery imports Docker's client when
         pytest starts, before that; the harness does so in this time, and starts its keeper and makes its network
next     the same for the second test: its servers and its worker are as fresh, what a session makes once is there

`container` has a backend of its own, as pytest-celery has; `one server` is the harness as it is by itself, with
results in another database of the broker. `local` is without containers, with a backend of its own as well. The exit
code is 1 where `next`, a fresh environment, is above a goal. `first` has no goal: it adds what a session makes once,
and the import of Celery alone, by whoever runs a worker first, takes about as long as the goal of `local` allows for
all.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from common import in_turn, machine, median, spread

from pytest_celery_chaos.workers.runtime import cache_folder

THEIRS: Final = "pytest-celery"
VERSION: Final = "1.3.0"
SERVER: Final = "8.0"
GOALS: Final = {"container": 0.35, "local": 0.15}
COLUMNS: Final = ("process", "first", "next")
FAST: Final = "--without-gossip --without-mingle --without-heartbeat"
BUILD: Final = Path(__file__).parent.parent / "tests" / "images" / "build"

#: Of both: writes the seconds from a test's set-up to its result, and the instant at which it was there.
CONFTEST = """
import os, time, pytest
began = []

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    began.append(time.monotonic())

@pytest.fixture
def done():
    def done():
        now = time.monotonic()
        with open(os.environ["BENCHMARK_TIMES"], "a") as file:
            file.write(f"{now - began[-1]} {now}\\n")
    return done
"""
THEIR_TEST = """
import os, pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerContainer, RedisContainer
from pytest_celery.vendors.worker.tasks import add
from pytest_docker_tools import image

# Where tests run in a container, pytest-docker-tools takes the engine for that of the host, and goes by the
# containers' own ports. Here the engine is on the machine of the tests, whatever that is.
RedisContainer.get_addr = lambda self, port: ("127.0.0.1", self.ports[port][0])

class Server(RedisContainer):
    @classmethod
    def image(cls):
        return os.environ["BENCHMARK_SERVER"]

class Worker(CeleryWorkerContainer):
    @classmethod
    def command(cls, *args, **kwargs):
        return super().command("--concurrency", "1", *os.environ["BENCHMARK_OPTIONS"].split(), *args, **kwargs)

celery_base_worker_image = image(name=os.environ["BENCHMARK_WORKER"])

@pytest.fixture
def default_redis_broker_cls():
    return Server

@pytest.fixture
def default_redis_backend_cls():
    return Server

@pytest.fixture
def default_worker_container_cls():
    return Worker

@pytest.fixture
def celery_broker_cluster(celery_redis_broker):
    return CeleryBrokerCluster(celery_redis_broker)

@pytest.fixture
def celery_backend_cluster(celery_redis_backend):
    return CeleryBackendCluster(celery_redis_backend)

@pytest.mark.parametrize("test", ["first", "next"])
def test_a_task(celery_setup, done, test):
    assert add.s(1, 2).apply_async().get(timeout=30) == 3
    done()
"""
APP = """
from celery import Celery
app = Celery("app")

@app.task
def add(x, y):
    return x + y
"""
OUR_TEST = """
import json, os, pytest
from app import add

@pytest.mark.chaos(**json.loads(os.environ["BENCHMARK_MARKER"]))
@pytest.mark.parametrize("test", ["first", "next"])
def test_a_task(chaos, done, test):
    assert add.delay(1, 2).get(timeout=30) == 3
    done()
"""


def worker_image() -> str:
    return f"celery-chaos/worker:{'.'.join(version('celery').split('.')[:2])}"


def prepare() -> Path:
    """Have the images, and an environment with pytest-celery; its Python."""
    for image in (f"redis:{SERVER}", worker_image()):
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            subprocess.run([BUILD], check=True)
            break
    folder = cache_folder() / f"{THEIRS}-{VERSION}-py{sys.version_info[0]}.{sys.version_info[1]}"
    python, complete = folder / "bin" / "python", folder / "complete"
    wanted = [f"{THEIRS}[redis]=={VERSION}", *(f"{name}=={version(name)}" for name in ("celery", "kombu", "redis"))]
    if not complete.exists() or complete.read_text() != "\n".join(wanted):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
        subprocess.run([python, "-m", "compileall", "-q", folder / "lib"], check=False)
        complete.write_text("\n".join(wanted))
    return python


def projects(folder: Path) -> dict[str, Path]:
    """A folder with a test for each of both."""
    made = {}
    ini = "[pytest]\nchaos_app = app:app\npythonpath = .\n"
    for name, files in {
        THEIRS: {"conftest.py": CONFTEST, "test_it.py": THEIR_TEST, "pytest.ini": "[pytest]\n"},
        "ours": {"conftest.py": CONFTEST, "test_it.py": OUR_TEST, "app.py": APP, "pytest.ini": ini},
    }.items():
        made[name] = folder / name
        made[name].mkdir()
        for file, text in files.items():
            (made[name] / file).write_text(text)
    return made


def marker(provider: str, profile: str, *, own_backend: bool) -> dict[str, Any]:
    """What the harness is asked for, as `pytest.mark.chaos` takes it."""
    server = {"server": "redis", **({"version": SERVER} if provider == "container" else {})}
    asked = {"broker": server, "workers": {"a": {"pool": "prefork", "concurrency": 1, "profile": profile}}}
    return {**asked, "backend": server} if own_backend else asked


def measure(python: Path, project: Path, *arguments: str, **variables: str) -> dict[str, float]:
    """Run the project's two tests: milliseconds, by column."""
    times = project.parent / "times"
    times.unlink(missing_ok=True)
    env = {**os.environ, "BENCHMARK_TIMES": str(times), **variables}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.monotonic()
    line = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(line, cwd=project, env=env, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    first, second = ([float(each) for each in row.split()] for row in times.read_text().splitlines())
    return {"process": (first[1] - begin) * 1000, "first": first[0] * 1000, "next": second[0] * 1000}


def cases(python: Path, folders: dict[str, Path], profile: str) -> dict[str, Any]:
    theirs = functools.partial(
        measure,
        python,
        folders[THEIRS],
        BENCHMARK_SERVER=f"redis:{SERVER}",
        BENCHMARK_WORKER=worker_image(),
        BENCHMARK_OPTIONS=FAST if profile == "fast" else "",
    )

    def ours(provider: str, *, own_backend: bool = True) -> dict[str, float]:
        asked = json.dumps(marker(provider, profile, own_backend=own_backend))
        return measure(Path(sys.executable), folders["ours"], "--chaos-provider", provider, BENCHMARK_MARKER=asked)

    return {
        THEIRS: theirs,
        "container": functools.partial(ours, "container"),
        "one server": functools.partial(ours, "container", own_backend=False),
        "local": functools.partial(ours, "local"),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=5, help="of each case, in turn (default 5)")
    options.add_argument("--profile", action="append", choices=("fast", "default"), help="of the worker")
    options.add_argument("--json", action="store_true", help="print figures for programs")
    asked = options.parse_args()
    python = prepare()
    head = "".join(f"{column:>9} {'middle half':>12} {'ratio':>6}" for column in COLUMNS)
    lines = [f"{'profile':8} {'case':14}{head}   medians of {asked.rounds}, ms"]
    figures: dict[str, dict[str, dict[str, float]]] = {}
    above = []
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folders = projects(Path(name))
        for profile in asked.profile or ("fast", "default"):
            found = in_turn(cases(python, folders, profile), asked.rounds)
            base = {column: median([each[column] for each in found[THEIRS]]) for column in COLUMNS}
            figures[profile] = {}
            for case, rounds in found.items():
                line, figures[profile][case] = f"{profile:8} {case:14}", {}
                for column in COLUMNS:
                    values = [each[column] for each in rounds]
                    ratio = median(values) / base[column]
                    figures[profile][case] |= {column: median(values), f"{column} ratio": ratio}
                    line += f"{median(values):9.0f} {spread(values):>12} {ratio:6.3f}"
                    if case in GOALS and column == "next" and ratio > GOALS[case]:
                        above.append(f"{profile} {case} {column}: {ratio:.3f}, and {GOALS[case]:g} is the goal")
                lines.append(line)
    if asked.json:
        print(json.dumps({"machine": machine(), "goals": GOALS, "profiles": figures, "above": above}, indent=1))
    else:
        print("\n".join([machine(), *lines, *(above or ["all goals are met"])]))
    return int(bool(above))


if __name__ == "__main__":
    sys.exit(main())
