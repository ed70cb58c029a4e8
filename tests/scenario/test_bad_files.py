"""Every mistake in `bad/` is told at its place, with the value and the next step; all of a file's at once.

Beside each file stands NAME.expected: a line for each problem, `line:column what -> hint`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario.problems import InvalidScenario
from pytest_celery_chaos.scenario.read import load_scenario, scenario_of

BAD = sorted(Path(__file__).with_name("bad").glob("*.chaos.yaml"))


def test_there_are_at_least_forty_bad_files() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name.partition(".")[0])
def test_a_bad_file_is_told_with_every_mistake_at_its_place(path: Path) -> None:
    expected = path.with_name(path.name.replace(".chaos.yaml", ".expected")).read_text().splitlines()
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    told = str(caught.value).replace("\n  hint: ", " -> ").splitlines()
    problems = [line for line in told if line.startswith(f"{path}:") and not line.endswith(("problem", "problems"))]
    assert len(problems) == len(expected), str(caught.value)
    for line in expected:
        place, _, rest = line.partition(" ")
        what, _, hint = rest.partition(" -> ")
        assert hint, f"{line}: a problem without a next step"
        at_place = [each for each in str(caught.value).split(f"{path}:") if each.startswith(f"{place}: {what}")]
        assert at_place, f"{line}\nnot in\n{caught.value}"
        assert any(f"  hint: {hint}" in each for each in at_place), f"{line}\nnot in\n{caught.value}"


def test_the_excerpt_shows_the_line_and_a_caret_under_the_value() -> None:
    with pytest.raises(InvalidScenario) as caught:
        scenario_of("scenario: t\nworkers: {a: {pool: gevent}}\nsteps: [send: add]\n", "x.chaos.yaml")
    assert "    2 | workers: {a: {pool: gevent}}\n                            ^^^^^^\n" in str(caught.value)
    assert [(each.place.line, each.place.column, each.place.width) for each in caught.value.problems] == [(2, 21, 6)]


def test_a_long_line_is_cut_so_that_the_caret_stays_in_sight() -> None:
    text = f"scenario: t\nabout: {'x' * 500}\nworkers: {{a: {{}}}}\nsteps: [send: add, {'  ' * 200}kil: a]\n"
    with pytest.raises(InvalidScenario) as caught:
        scenario_of(text, "x.chaos.yaml")
    excerpt, caret = str(caught.value).splitlines()[2:4]
    assert len(excerpt) < 120
    assert excerpt[caret.index("^") :].startswith("kil")


def test_what_a_terminal_would_act_on_is_not_printed() -> None:
    with pytest.raises(InvalidScenario) as caught:
        scenario_of("scenario: t\nabout: \x1b[31mred\n", "x.chaos.yaml")
    assert "\x1b" not in str(caught.value)


def test_a_password_in_a_scenario_does_not_reach_the_message() -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario_of("scenario: t\napp: redis://:geheim@localhost/0\nworkers: {a: {}}\nsteps: [send: add]\n", "x")
    assert "geheim" not in str(caught.value)
