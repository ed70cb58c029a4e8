"""Each exit code of ``celery-chaos``, from a run that earns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, runs


@pytest.mark.parametrize(
    ("name", "code", "verdict", "says"),
    [
        ("holds", 0, "holds", "1 as recorded"),
        ("hazard", 0, "hazard", "1 as recorded (1 known hazards)"),
        ("violated", 1, "violated", "1 violated"),
        ("fixed", 1, "violated", "but it holds now"),
        ("other-figure", 1, "violated", "KF-0 records seen: 3, but seen is 1"),
        ("unreached", 6, "inconclusive", "1 inconclusive"),
    ],
)
def test_run_and_check_exit_by_the_verdict(
    name: str, code: int, verdict: str, says: str, write: Callable[..., None], chaos: Run, folder: Path
) -> None:
    write(name)
    done = chaos("run", ".")
    assert done.returncode == code, done.stdout + done.stderr
    assert says in " ".join(done.stdout.split())
    assert verdict in done.stdout
    (stored,) = runs(folder)
    again = chaos("check", str(stored))
    assert again.returncode == code
    assert verdict in again.stdout
    assert "Traceback" not in done.stdout + done.stderr + again.stderr


def test_a_violation_outweighs_what_is_inconclusive(write: Callable[..., None], chaos: Run) -> None:
    write("violated", "unreached")
    assert chaos("run", ".").returncode == 1


def test_the_result_as_json(write: Callable[..., None], answer: Callable[..., dict[str, Any]], folder: Path) -> None:
    write("holds", "hazard", "unreached")
    found = answer("run", ".")
    assert found["exit_code"] == 6
    rows = {Path(row["node"].partition("::")[0]).name: row for row in found["runs"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "hazard.chaos.yaml": "hazard",
        "holds.chaos.yaml": "holds",
        "unreached.chaos.yaml": "inconclusive",
    }
    for row in rows.values():
        assert Path(row["folder"]) in runs(folder)
        assert row["server"].split()[0] in ("valkey", "redis")
        assert row["pool"] == "solo"
        assert row["seconds"] > 0
        assert row["why"]
    verdict = answer("check", rows["hazard.chaos.yaml"]["folder"])
    assert (verdict["value"], verdict["status"]) == ("hazard", "finished")


def test_two_at_a_time(write: Callable[..., None], chaos: Run, folder: Path) -> None:
    write("holds", "hazard")
    done = chaos("run", "-j", "2", "--times", "2", ".")
    assert done.returncode == 0, done.stdout
    assert "4 runs: 4 as recorded" in done.stdout
    assert len(runs(folder)) == 4


def test_a_file_by_any_name_and_a_selection(write: Callable[..., None], chaos: Run, folder: Path) -> None:
    write("holds", "violated")
    (folder / "other.yaml").write_text((folder / "holds.chaos.yaml").read_text())
    assert "1 as recorded" in chaos("run", "other.yaml").stdout
    assert chaos("run", ".", "-k", "holds").returncode == 0
    assert chaos("run", ".", "-k", "nothing-of-this-name").returncode == 2


BAD = {
    "an unknown key": ("scenario: X\nworkerz: {}\n", "workerz"),
    "no YAML": ("scenario: [\n", "chaos.yaml:2"),
    "a missing worker": (
        "scenario: X\nworkers: {a: {}}\nsteps:\n  - kill: {worker: b}\n",
        "no worker is called 'b'",
    ),
}


@pytest.mark.parametrize("command", ["run", "lint"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_told_before_anything_starts(what: str, command: str, chaos: Run, folder: Path) -> None:
    text, says = BAD[what]
    (folder / "bad.chaos.yaml").write_text(text)
    done = chaos(command, ".")
    assert done.returncode == 2
    assert says in done.stderr
    assert "bad.chaos.yaml:" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / ".celery-chaos").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run", "--server", "memcached", "."), "no server is called 'memcached'"),
        (("run", "--server", "valkey-3.2", "."), "valkey 3.2"),
        (("run", "--server", "valkey-", "."), "no server is called 'valkey-'"),
        (("run", "--pool", "gevent", "."), "gevent"),
        (("run", "--keep", "-j", "2", "."), "--keep and -j exclude each other"),
        (("run", "nowhere"), "nowhere: there is no such file"),
        (("run", "empty"), "empty: holds no scenario"),
        (("lint", "nowhere"), "nowhere: there is no such file"),
        (("check", "nowhere"), "not the folder of a run"),
        (("check", "."), "not the folder of a run"),
        (("walk",), "No such command"),
        (("servers", "install", "memcached"), "memcached"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_exits_with_2(
    argv: tuple[str, ...], says: str, write: Callable[..., None], chaos: Run, folder: Path
) -> None:
    write("holds")
    (folder / "empty").mkdir()
    done = chaos(*argv)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / ".celery-chaos").exists()


def test_a_server_that_a_file_asks_for_and_is_not_there(chaos: Run, write: Callable[..., None], folder: Path) -> None:
    write("holds")
    text = (folder / "holds.chaos.yaml").read_text()
    (folder / "holds.chaos.yaml").write_text(text + 'broker: {server: redis, version: "3.0"}\n')
    done = chaos("run", ".")
    assert done.returncode == 2
    assert "redis 3.0" in done.stderr
    assert "celery-chaos servers" in done.stderr
    assert not (folder / ".celery-chaos").exists()


def test_what_only_looks(chaos: Run, write: Callable[..., None], answer: Callable[..., Any], folder: Path) -> None:
    write("holds")
    assert chaos("lint", ".").stdout == "1 files, 0 with mistakes\n"
    assert answer("lint", ".") == {"files": 1, "problems": {}}
    listed = answer("servers", "list")
    assert listed
    assert {"server", "version", "source", "path"} == set(listed[0])
    assert chaos("servers", "list").returncode == 0
    found = answer("doctor")
    assert found["can_run"] is True
    assert chaos("doctor").returncode == 0
    assert "scenario" in answer_of_schema(chaos)["properties"]
    path = Path(chaos("schema", "--path").stdout.strip())
    assert path.is_file()
    assert chaos("--version").returncode == 0
    for command in ("run", "matrix", "check", "lint", "schema", "servers", "doctor"):
        assert command in chaos("--help").stdout
    assert not (folder / ".celery-chaos").exists()


def answer_of_schema(chaos: Run) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(chaos("schema").stdout)
    return found


def test_who_needs_what_is_not_there_is_named_and_can_be_left_out(
    write: Callable[..., None], chaos: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("holds")
    text = (folder / "holds.chaos.yaml").read_text()
    for name in ("contained", "also-contained"):
        (folder / f"{name}.chaos.yaml").write_text(text.replace("workers:", "broker: {provider: container}\nworkers:"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/nobody.sock")
    done = chaos("run", ".")
    assert done.returncode == 2
    assert "also-contained.chaos.yaml: no container engine answers" in done.stderr
    assert "-k 'not (also-contained or contained)'" in done.stderr
    assert "Traceback" not in done.stderr
    left = chaos("run", ".", "-k", "not (also-contained or contained)")
    assert left.returncode == 0, left.stdout + left.stderr
    assert "1 as recorded" in left.stdout
    (folder / "holds.chaos.yaml").unlink()
    assert "leave out" not in chaos("run", ".").stderr
