"""The command reads pytest's configuration of the folder that it is run in, for the scenarios of the package too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_celery_chaos.cli import own_ini, server_in

from .conftest import Run

FILES = {
    "pytest.ini": "[pytest]\nchaos_server = redis-6.2\n",
    "pyproject.toml": '[tool.pytest.ini_options]\nchaos_server = "redis-6.2"\n',
    "tox.ini": "[tox]\n[pytest]\nchaos_server=redis-6.2\n",
    "setup.cfg": "[tool:pytest]\nchaos_server = redis-6.2\n",
}


@pytest.mark.parametrize("name", FILES)
def test_the_server_of_the_folders_configuration(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert own_ini(below) == tmp_path / name
    assert server_in(own_ini(tmp_path)) == "redis-6.2"


def test_a_file_that_says_nothing_of_pytest_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "tox.ini").write_text("[tox]\n")
    assert own_ini(tmp_path) not in (tmp_path / "pyproject.toml", tmp_path / "tox.ini")
    assert server_in(None) is None


def test_the_scenarios_of_the_package_run_on_the_folders_server(chaos: Run, folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nchaos_server = redis\nchaos_runs = elsewhere\n")
    done = chaos("run", "-k", "late-ack-acknowledged")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "redis " in done.stdout
    assert "valkey" not in done.stdout
    assert (folder / "elsewhere").is_dir()


def test_a_server_of_the_folders_that_is_not_there(chaos: Run, folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nchaos_server = redis-3.0\n")
    done = chaos("run")
    assert done.returncode == 2
    assert "redis 3.0" in done.stderr


def test_the_client_library_of_the_folders_configuration(chaos: Run, folder: Path) -> None:
    (folder / "one.chaos.yaml").write_text(
        "scenario: One\nprofile: fast\nworkers: {a: {pool: solo}}\nsteps:\n- send: add\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\nchaos_client = valkey\nchaos_runs = elsewhere\n")
    done = chaos("run", "one.chaos.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    [plan] = (folder / "elsewhere").glob("*/plan.json")
    assert json.loads(plan.read_text())["axes"]["client"] == "valkey"
    (folder / "pytest.ini").write_text("[pytest]\nchaos_client = memcached\n")
    done = chaos("run", "one.chaos.yaml")
    assert done.returncode != 0
    assert "chaos_client: 'memcached': write redis or valkey" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_how_the_folders_workers_start(chaos: Run, folder: Path) -> None:
    """A worker of each start method, told by the command line with which the kernel started it."""
    (folder / "who.py").write_text(
        "from pathlib import Path\nfrom celery import Celery\napp = Celery('who')\n"
        "@app.task(name='who')\ndef who():\n    Path('who').write_bytes(Path('/proc/self/cmdline').read_bytes())\n"
    )
    (folder / "one.chaos.yaml").write_text(
        "scenario: One\nprofile: fast\napp: who:app\nworkers: {a: {pool: solo}}\nsteps:\n- send: who\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\nchaos_start_method = spawn\n")
    for options, program in (((), "celery"), (("--start-method", "forkserver"), "celery_chaos_forkserver.py")):
        done = chaos("run", "one.chaos.yaml", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert Path((folder / "who").read_bytes().split(b"\0")[1].decode()).name == program
    (folder / "pytest.ini").write_text("[pytest]\nchaos_start_method = fork\n")
    done = chaos("run", "one.chaos.yaml")
    assert done.returncode != 0
    assert "chaos_start_method: no start method is called 'fork': forkserver or spawn" in done.stdout + done.stderr
