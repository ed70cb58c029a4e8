"""A verb's signature is what its arguments are checked against, from Python as from a file."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from pytest_celery_chaos.errors import ScenarioError, UsageError
from pytest_celery_chaos.faults import FAULTS
from pytest_celery_chaos.registry import Registry
from pytest_celery_chaos.scenario.arguments import validate
from pytest_celery_chaos.scenario.model import Format
from pytest_celery_chaos.scenario.read import scenario_of
from pytest_celery_chaos.scenario.vocabulary import Vocabulary
from pytest_celery_chaos.workloads import WORKLOADS

THEIRS = Registry("fault", {name: f"tests.scenario.verbs:{name}" for name in ("burn", "paint", "publish", "odd")})
VOCABULARY = Vocabulary(faults=THEIRS, checks=Registry("check", {"pretty": "tests.scenario.verbs:pretty"}))


def read(steps: str, expect: str = "[]") -> Format:
    text = f"scenario: t\nworkers: {{a: {{}}, b: {{}}}}\nsteps: {steps}\nexpect: {expect}\n"
    return scenario_of(text, "x.chaos.yaml", VOCABULARY).formats[None]


def args(steps: str) -> Any:
    return read(steps).steps[0].step.args


def test_what_was_left_out_stays_left_out() -> None:
    assert validate(FAULTS["kill"], {"worker": "a"}) == {"worker": "a"}


def test_a_duration_from_python_is_seconds_or_text() -> None:
    assert validate(FAULTS["stop"], {"worker": "a", "grace": 2}) == {"worker": "a", "grace": 2.0}
    assert validate(FAULTS["stop"], {"worker": "a", "grace": "500ms"}) == {"worker": "a", "grace": 0.5}


def test_a_signal_from_python_is_a_name_of_either_form() -> None:
    for given in ("TERM", "SIGTERM", signal.SIGTERM):
        assert validate(FAULTS["kill"], {"worker": "a", "signal": given})["signal"] == "TERM"


def test_values_from_python_pass_as_they_are() -> None:
    given = {"task": "add", "args": [1, {"x": (1, 2)}, None, b"bytes"], "headers": {"a": 1}}
    assert validate(WORKLOADS["send"], given)["args"][3] == b"bytes"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"worker": "a", "singal": "TERM"}, "unknown key 'singal' in kill\n  hint: did you mean 'signal'?"),
        ({"worker": 1}, "worker of kill: expected text, not 1\n  hint: give a str"),
        ({"worker": "a", "signal": 9}, "signal of kill: expected text, not 9"),
        ({"worker": "a", "target": "all"}, "expected one of group, main, child, not 'all'"),
        ({"worker": "a", "signal": "kill"}, "did you mean 'KILL'?"),
    ],
)
def test_a_wrong_argument_from_python_is_a_usage_error(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        validate(FAULTS["kill"], given)
    assert told in str(caught.value)


def test_all_wrong_arguments_from_python_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"(?s)times of send.*rate of send.*lacks the key 'task'"):
        validate(WORKLOADS["send"], {"times": True, "rate": "fast"})


def test_a_negative_duration_from_python_is_an_error() -> None:
    with pytest.raises(UsageError, match="grace of stop: expected no less than 0 s, not -1"):
        validate(FAULTS["stop"], {"worker": "a", "grace": -1})


def test_another_packages_verbs_are_read_by_their_own_signatures() -> None:
    assert args("[burn: {worker: a, how: fast, lasting: 2m}]") == {"worker": "a", "how": "fast", "lasting": 120.0}
    assert args("[paint: {colours: [red], size: [1, 2]}]") == {"colours": ["red"], "size": (1, 2)}
    assert args("[paint: {size: 3}]") == {"size": 3}
    assert args("[publish: {task: a.b, headers: {version: 8.10}, extra: [1]}]") == {
        "task": "a.b",
        "headers": {"version": "8.10"},
        "extra": [1],
    }


def test_a_bare_value_is_the_only_required_argument_or_else_the_first() -> None:
    assert args("[burn: a]") == {"worker": "a"}
    assert read("[burn: a]", "[pretty: yes]").expect[0].expectation.args == {"name": "yes"}


def test_a_name_among_the_arguments_names_the_step_unless_the_verb_has_such_an_argument() -> None:
    said = read("[burn: {worker: a, name: fire}]", "[pretty: {name: y}]")
    assert said.steps[0].step.name == "fire"
    assert said.expect[0].expectation.args == {"name": "y"}


def test_a_type_that_no_file_can_express_is_told_as_the_verbs_fault() -> None:
    with pytest.raises(UsageError, match="which a scenario cannot express"):
        read("[odd: {when: 1}]")


@pytest.mark.parametrize(
    "steps", ["[paint: {size: [1]}]", "[paint: {colours: [green]}]", "[publish: {task: a.b, times: 0}]"]
)
def test_a_wrong_value_of_another_packages_verb_is_told(steps: str) -> None:
    with pytest.raises(ScenarioError):
        read(steps)


def test_the_parts_of_a_chord_are_given_by_their_keys() -> None:
    from pytest_celery_chaos.workloads import WORKLOADS
    from pytest_celery_chaos.workloads.parts import Many, Part, Task

    many = validate(WORKLOADS["chord"], {"header": {"task": "echo", "numbered": 3}})
    assert many == {"header": Many("echo", numbered=3)}
    inner = {"group": ["add", {"task": "add", "args": [1]}]}
    listed = validate(WORKLOADS["chord"], {"header": ["add", inner], "body": {"chain": ["collect", "echo"]}})
    assert listed["header"] == ["add", Part(group=["add", Task("add", args=[1])])]
    assert listed["body"] == Part(chain=["collect", "echo"])
    with pytest.raises(UsageError, match="numberd"):
        validate(WORKLOADS["chord"], {"header": {"task": "echo", "numberd": 3}})
