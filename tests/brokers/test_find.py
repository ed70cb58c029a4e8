"""Where servers are looked for, in which order, and what is said when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_celery_chaos.brokers.find import Binary, available, cache_folder, find, probe
from pytest_celery_chaos.errors import ServerNotFound

from .conftest import required


def stand_in(path: Path, server: str, version: str) -> Path:
    """What `--version` says is all that finding needs to know of a binary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!/bin/sh\necho '{server.title()} server v={version} sha=00000000:0 malloc=libc bits=64 build=0'\n"
    )
    path.chmod(0o755)
    return path


def in_cache(name: str, version: str) -> Path:
    server = name.partition("-")[0]
    path = stand_in(cache_folder() / "servers" / name / f"{server}-server", server, version)
    (path.parent / "server.json").write_text(
        f'{{"server": "{server}", "version": "{version}", "binary": "{path.name}", "size": {path.stat().st_size}}}'
    )
    return path


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any server: no variable, an empty cache, a PATH with nothing in it."""
    for name in [name for name in os.environ if name.startswith("CELERY_CHAOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CELERY_CHAOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_the_order_is_path_environment_cache_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = stand_in(tmp_path / "bin" / "valkey-server", "valkey", "9.1.4")
    assert find("valkey", "9.1") == Binary(last, "valkey", "9.1.4", "PATH")
    third = in_cache("valkey-9.1", "9.1.3")
    assert find("valkey", "9.1") == Binary(third, "valkey", "9.1.3", "cache")
    second = stand_in(tmp_path / "own", "valkey", "9.1.2")
    monkeypatch.setenv("CELERY_CHAOS_SERVER_VALKEY_9_1", str(second))
    assert find("valkey", "9.1") == Binary(second, "valkey", "9.1.2", "CELERY_CHAOS_SERVER_VALKEY_9_1")
    first = stand_in(tmp_path / "named", "valkey", "9.1.1")
    assert find("valkey", "9.1", path=first) == Binary(first, "valkey", "9.1.1", "path")
    assert [binary.version for binary in available()] == ["9.1.2", "9.1.3", "9.1.4"]


def test_a_version_is_matched_by_its_parts_and_none_means_the_newest() -> None:
    for name, version in (("valkey-8.1", "8.1.8"), ("valkey-8.10", "8.10.0"), ("redis-6.2", "6.2.14")):
        in_cache(name, version)
    assert find("valkey").version == "8.10.0"
    assert find("valkey", "8").version == "8.10.0"
    assert find("valkey", "8.1").version == "8.1.8"
    assert find("valkey", "8.1.8").version == "8.1.8"
    assert find("redis").version == "6.2.14"


def test_a_variable_without_version_serves_only_the_version_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_CHAOS_SERVER_REDIS", str(stand_in(tmp_path / "own", "redis", "7.2.5")))
    in_cache("redis-6.2", "6.2.14")
    assert find("redis").version == "7.2.5"
    assert find("redis", "7.2").source == "CELERY_CHAOS_SERVER_REDIS"
    assert find("redis", "6.2").source == "cache"


def test_a_binary_is_what_it_says_whatever_it_is_called(tmp_path: Path) -> None:
    # As Debian's valkey-redis-compat has it.
    stand_in(tmp_path / "bin" / "redis-server", "valkey", "8.1.1")
    assert find("valkey", "8.1").path == tmp_path / "bin" / "redis-server"
    with pytest.raises(ServerNotFound):
        find("redis")


@pytest.mark.parametrize(
    ("server", "version", "next_step"),
    [
        ("valkey", "9.1", "celery-chaos servers install valkey-9.1`, or set CELERY_CHAOS_SERVER_VALKEY_9_1"),
        ("valkey", None, "celery-chaos servers install valkey-9.1`"),
        ("valkey", "8", "celery-chaos servers install valkey-8.1`"),
        ("redis", "6.2", "celery-chaos servers install redis-6.2`"),
        ("redis", "7.2", "set CELERY_CHAOS_SERVER_REDIS_7_2 to a redis-server"),
    ],
)
def test_what_is_not_found_comes_with_the_next_step(server: str, version: str | None, next_step: str) -> None:
    in_cache("redis-5.0", "5.0.1")
    with pytest.raises(ServerNotFound) as raised:
        find(server, version)  # type: ignore[arg-type]
    assert next_step in str(raised.value)
    assert "redis 5.0.1 (cache)" in str(raised.value)


@pytest.mark.parametrize("name", ["CELERY_CHAOS_SERVER_VALKEY", "CELERY_CHAOS_SERVER_VALKEY_9_1"])
def test_a_variable_that_names_nothing_or_something_else_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    in_cache("valkey-9.1", "9.1.3")
    for value in (tmp_path / "absent", stand_in(tmp_path / "other", "redis", "7.0.1")):
        monkeypatch.setenv(name, str(value))
        with pytest.raises(ServerNotFound, match=rf"{name}: .*\n.*correct or unset {name}"):
            find("valkey", "9.1")


def test_a_named_path_must_be_a_server_of_the_wanted_version(tmp_path: Path) -> None:
    with pytest.raises(ServerNotFound, match="No such file"):
        find("valkey", path=tmp_path / "absent")
    with pytest.raises(ServerNotFound, match=r"is valkey 8\.1\.1, and version 9 is wanted"):
        find("valkey", "9", path=stand_in(tmp_path / "eight", "valkey", "8.1.1"))
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ServerNotFound, match="does not run"):
        find("valkey", path=tmp_path / "text")
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(ServerNotFound, match=r"is no server .*says: hello"):
        find("valkey", path=other)


def test_an_incomplete_folder_of_the_cache_is_passed_over() -> None:
    path = in_cache("valkey-9.1", "9.1.3")
    path.write_text("torn")
    assert available() == []
    (path.parent / "server.json").write_text("{")
    assert available() == []


def test_missing_shared_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real PATH and cache
    program = required("redis-6.2").path.read_bytes()
    assert program.count(b"libpthread.so.0\0") == 1
    broken = tmp_path / "redis-server"
    broken.write_bytes(program.replace(b"libpthread.so.0\0", b"libabsence.so.0\0"))
    broken.chmod(0o755)
    with pytest.raises(ServerNotFound, match=r"install what it needs: libabsence\.so\.0"):
        probe(broken)
