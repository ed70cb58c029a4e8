"""What a plain scalar means: what the field wants, and never what it does not say."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.errors import ScenarioError, UsageError
from pytest_celery_chaos.scenario.compile import compile_scenario
from pytest_celery_chaos.scenario.read import scenario_of
from pytest_celery_chaos.values import parse_duration

FILE = """\
scenario: t
workers: {{a: {{env: {{X: {env}}}}}}}
broker: {{version: {version}}}
steps: [send: {{task: add, args: [{arg}]}}]
"""


def argument(text: str) -> Any:
    """What `args: [TEXT]` gives."""
    scenario = scenario_of(FILE.format(env="x", version="null", arg=text), "x")
    return scenario.formats[None].steps[0].step.args["args"][0]


def variable(text: str) -> str:
    """What `env: {X: TEXT}` gives."""
    (plan,) = compile_scenario(scenario_of(FILE.format(env=text, version="null", arg="1"), "x"))
    return plan.workers["a"].env["X"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("~", None), ("3", 3), ("-3", -3), ("0", 0), ("3.50", 3.5),
        ("1e3", 1000.0), ("word", "word"), ("1.2.3", "1.2.3"), ("'3'", "3"), ("'no'", "no"), ("127.0.0.1", "127.0.0.1"),
        ("a$b", "a$b"), ("$$name", "$name"), ("2s", "2s"), ("{a: [1]}", {"a": [1]}),
    ],
)  # fmt: skip
def test_where_any_value_may_stand_a_scalar_is_what_all_readers_agree_on(text: str, value: Any) -> None:
    read = argument(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "Off", "True", "NULL", "010", "08", "0x1F", "0o17", "0b11", "1_000", "1:30", "190:20:30",
     ".5", "5.", ".inf", "-.INF", ".nan", "1_0.5", "2024-01-01", "12345678901234567890", "="],
)  # fmt: skip
def test_where_any_value_may_stand_what_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"(?s)can be read in one way only, not .*hint: .*quote the text"):
        argument(text)


@pytest.mark.parametrize(
    "text", ["8.10", "010", "1:30", "no", "on", "yes", "1_000", "1e3", "2024-01-01", "0x1F", ".inf"]
)
def test_where_text_is_wanted_it_is_the_text_as_written(text: str) -> None:
    assert variable(text) == text


@pytest.mark.parametrize("text", ["true", "null", "[a]", "{a: b}"])
def test_where_text_is_wanted_what_is_certainly_something_else_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"expected text"):
        variable(text)


def test_a_version_without_quotes_keeps_its_last_zero() -> None:
    (plan,) = compile_scenario(scenario_of(FILE.format(env="x", version="8.10", arg="1"), "x"))
    assert plan.broker.version == "8.10"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("0s", 0.0), ("0.1ms", 0.0001)],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "s", "2 s", "-2s", "2S", "1e3s", "1.s", ".5s", "2s ", "1h30m", "٢s", "9" * 400 + "s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)
