"""Two thousand broken scenarios: each is read or refused with a ScenarioError, and nothing is ever started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario.compile import compile_scenario
from pytest_celery_chaos.scenario.discover import discover
from pytest_celery_chaos.scenario.read import scenario_of

#: The first is tried with every other test, the second by hand; three of four must still be YAML.
FEW, MANY = 500, 2000
GOOD = [*sorted(Path(__file__).with_name("good").glob("*.chaos.yaml")), *discover()]
LINES = [path.read_text().splitlines() for path in GOOD]
#: What scenarios are made of, and what has confused readers of YAML before.
WORDS = Path(__file__).with_name("mutations.txt").read_text(encoding="utf-8").splitlines()
KINDS = ["word"] * 24 + ["drop", "twice", "swap", "indent", "letter", "other"]
FORBIDDEN = ("subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system", "socket.connect", "socket.bind")
started: list[str] = []
_watching = False


def _audit(event: str, args: Any) -> None:
    if _watching and event.startswith(FORBIDDEN):
        started.append(event)


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[None]:
    """Note every process and connection that is started inside."""
    global _watching
    _watching = True
    try:
        yield
    finally:
        _watching = False


def tokens(line: str) -> list[tuple[int, int]]:
    """Where the words of a line begin and end."""
    found, begin = [], None
    for index, letter in enumerate(f"{line} "):
        if letter in " ,:{}[]":
            if begin is not None and line[begin:index] not in ("-", ">", "#"):
                found.append((begin, index))
            begin = None
        elif begin is None:
            begin = index
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good file with one or two mistakes."""
    # One draw makes all choices: drawn one by one, a fifth of the files come twice.
    choose = draw(st.randoms(use_true_random=True))
    lines = list(choose.choice(LINES))
    for _ in range(choose.randint(1, 2)):
        number = choose.randrange(len(lines))
        line, spans = lines[number], tokens(lines[number])
        kind = choose.choice(KINDS)
        if kind == "word" and spans:
            begin, end = choose.choice(spans)
            lines[number] = line[:begin] + choose.choice(WORDS) + line[end:]
        elif kind == "drop" and len(lines) > 1:
            del lines[number]
        elif kind == "twice":
            lines.insert(number, line)
        elif kind == "swap":
            other = choose.randrange(len(lines))
            lines[number], lines[other] = lines[other], lines[number]
        elif kind == "indent":
            lines[number] = choose.choice(["  ", "- ", "\t", " "]) + line
        elif kind == "letter":
            at = choose.randint(0, len(line))
            lines[number] = line[:at] + draw(st.characters(exclude_categories=["Cs"])) + line[at:]
        elif kind == "other":
            lines.insert(number, choose.choice(choose.choice(LINES)))
    return "\n".join(lines) + "\n"


def is_yaml(text: str) -> bool:
    try:
        for _ in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            pass
    except (yaml.YAMLError, ValueError, OverflowError):
        return False
    return True


@pytest.mark.parametrize("mutations", [FEW, pytest.param(MANY, marks=pytest.mark.soak)])
def test_a_mutated_file_is_read_or_refused_and_nothing_is_started(mutations: int) -> None:
    counts = {"yaml": 0, "refused": 0}
    tried = set()

    @settings(
        max_examples=mutations, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(mutated())
    def reads_or_refuses(text: str) -> None:
        tried.add(text)
        counts["yaml"] += is_yaml(text)
        try:
            with watched():
                compile_scenario(scenario_of(text, "mutated.chaos.yaml"))
        except ScenarioError as error:
            counts["refused"] += 1
            assert "mutated.chaos.yaml:" in str(error)  # noqa: PT017
            str(error).encode("utf-8")

    reads_or_refuses()
    print(len(tried), counts)
    assert len(tried) >= 0.9 * mutations
    assert counts["yaml"] >= 0.75 * mutations
    assert counts["refused"] >= mutations // 2
    assert started == []
