"""Files that cannot be read at all, and how files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario import discover
from pytest_celery_chaos.scenario.load import MAX_BYTES
from pytest_celery_chaos.scenario.read import load_scenario

GOOD = "scenario: t\nworkers: {a: {}}\nsteps: [send: add]\n"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.chaos\.yaml: there is no such file\n  hint: "):
        load_scenario(tmp_path / "none.chaos.yaml")


def test_a_path_with_a_null_character_is_told() -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario("a\0b")


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"is a folder.*\n  hint: name a \*\.chaos\.yaml in it"):
        load_scenario(tmp_path)


def test_a_huge_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.chaos.yaml"
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ScenarioError, match="is larger than 1000000 bytes"):
        load_scenario(path)


def test_very_deep_nesting_is_told_without_running_out_of_stack(tmp_path: Path) -> None:
    path = tmp_path / "x.chaos.yaml"
    path.write_text("scenario: " + "[" * 100_000)
    with pytest.raises(ScenarioError, match="nested deeper than 20"):
        load_scenario(path)


def test_a_bomb_of_aliases_is_refused_unexpanded(tmp_path: Path) -> None:
    path = tmp_path / "x.chaos.yaml"
    levels = [f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 9)]
    path.write_text("\n".join(["scenario: t", "k0: &k0 lol", *levels]))
    with pytest.raises(ScenarioError, match=r"alias \*k0: not part of the format"):
        load_scenario(path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.chaos.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_scenario(path).title == "t"


def test_the_shipped_scenarios_are_found_in_a_stable_order() -> None:
    found = discover.discover()
    assert found == sorted(found)
    assert all(path.name.endswith(discover.SUFFIX) for path in found)
    assert {path.parent.parent for path in found} == {discover.shipped()}


def test_files_and_folders_are_found_once_each_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.chaos.yaml", "sub/a.chaos.yaml", "other.yaml"):
        (tmp_path / name).write_text(GOOD)
    found = discover.discover([tmp_path / "other.yaml", tmp_path / "sub" / "a.chaos.yaml", tmp_path])
    assert [path.name for path in found] == ["other.yaml", "a.chaos.yaml", "b.chaos.yaml"]


def test_a_path_that_is_not_there_and_a_folder_without_scenarios_are_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no such file"):
        discover.discover([tmp_path / "none"])
    with pytest.raises(ScenarioError, match="holds no scenario"):
        discover.discover([tmp_path])
