"""``celery-chaos servers`` and ``doctor``: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_celery_chaos.brokers.doctor import Row, can_run, rows
from pytest_celery_chaos.brokers.find import Binary
from pytest_celery_chaos.cli_servers import doctor, servers


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any server."""
    for name in [name for name in os.environ if name.startswith("CELERY_CHAOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CELERY_CHAOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(servers, arguments, catch_exceptions=False)


def test_the_list_has_every_server_with_version_and_source(any_binary: Binary) -> None:
    listed = json.loads(run("list", "--json").output)
    assert {
        "server": any_binary.server,
        "version": any_binary.version,
        "source": any_binary.source,
        "path": str(any_binary.path),
    } in listed
    table = run("list").output
    assert "version" in table
    assert any_binary.version in table


def test_an_empty_list_says_what_to_run(bare: None) -> None:
    assert json.loads(run("list", "--json").output) == []
    assert "celery-chaos servers install" in run("list").output


def test_what_is_installed_already_is_printed_with_its_path(any_binary: Binary) -> None:
    if any_binary.source != "cache":
        pytest.skip(f"{any_binary.path} does not come from the cache")
    done = run("install", "valkey-9.1", "--json")
    assert done.exit_code == 0
    assert json.loads(done.output) == {"valkey-9.1": str(any_binary.path)}
    assert run("install", "valkey-9.1").output.split() == ["valkey-9.1", str(any_binary.path)]


def test_an_unknown_name_is_bad_input(bare: None) -> None:
    done = run("install", "valkey-7")
    assert done.exit_code == 2
    assert "valkey-7" in done.stderr
    assert "Traceback" not in done.output


def test_the_doctor_finds_this_machine_able(any_binary: Binary) -> None:
    done = CliRunner().invoke(doctor, ["--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    problems = [row for row in report["rows"] if row["state"] == "problem"]
    assert (done.exit_code, report["can_run"], problems) == (0, True, [])
    names = {row["name"] for row in report["rows"]}
    assert {"python", "celery", "kombu", "redis", "/proc", "subreaper", "open files", "docker"} <= names
    assert f"server {any_binary.server} {any_binary.version}" in names


def test_the_doctor_without_servers_names_the_command_for_each(bare: None) -> None:
    done = CliRunner().invoke(doctor, catch_exceptions=False)
    assert done.exit_code == 1
    report = json.loads(CliRunner().invoke(doctor, ["--json"]).stdout)
    hints = {row["hint"] for row in report["rows"] if row["state"] == "problem"}
    assert hints == {f"run `celery-chaos servers install {name}`" for name in ("valkey-9.1", "valkey-8.1", "redis-6.2")}


def test_what_is_optional_is_a_note(bare: None) -> None:
    optional = [row for row in rows() if row.name in ("docker", "toxiproxy-server")]
    assert [row.state for row in optional] == ["note", "note"]
    assert can_run(optional)
    assert not can_run([*optional, Row("/proc", "problem", "absent")])


def test_a_wrong_variable_is_a_row_and_not_a_traceback(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_CHAOS_SERVER_VALKEY", sys.executable)
    problems = [row for row in rows() if row.state == "problem"]
    assert len(problems) == 1
    assert "CELERY_CHAOS_SERVER_VALKEY" in problems[0].found
    listed = run("list")
    assert listed.exit_code == 1
    assert "CELERY_CHAOS_SERVER_VALKEY" in listed.stderr
