"""All that is wrong with a file, gathered first and told at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pytest_celery_chaos.errors import ScenarioError
from pytest_celery_chaos.scenario.tree import Place

#: The line ends of YAML; str.splitlines would also split at form feeds and others that YAML counts as characters.
_LINE_END: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SHOWN: Final = 100


@dataclass(frozen=True)
class Problem:
    """One mistake: its place, what is wrong with which value, and what to do."""

    place: Place
    what: str
    hint: str | None = None


class InvalidScenario(ScenarioError):
    """A scenario file has mistakes. Correct them all: :attr:`problems` has each with its place."""

    def __init__(self, file: str, problems: Sequence[Problem], text: str = "") -> None:
        self.problems = tuple(problems)
        lines = _LINE_END.split(text)
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        super().__init__("\n".join([count, *(_told(problem, lines) for problem in problems)]), where=file)


def _told(problem: Problem, lines: Sequence[str]) -> str:
    told = [f"{problem.place}: {problem.what}"]
    if 0 < problem.place.line <= len(lines):
        told += _excerpt(problem.place, lines[problem.place.line - 1])
    if problem.hint:
        told.append(f"  hint: {problem.hint}")
    return "\n".join(told)


def _excerpt(place: Place, line: str) -> list[str]:
    start = place.column - 1
    # A window of a long line, so that the caret stays in sight; what a terminal would act on is shown as a dot.
    left = max(0, start - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = "".join(letter if letter.isprintable() else "·" for letter in line[left : left + _SHOWN])
    width = max(1, min(place.width, len(shown) - (start - left)))
    number = f"{place.line:>5} | "
    return [f"{number}{shown}", " " * (len(number) + start - left) + "^" * width]


@dataclass
class Problems:
    """Where problems are gathered, in the order of the file."""

    found: list[Problem] = field(default_factory=list)

    def add(self, place: Place, what: str, hint: str | None = None) -> None:
        problem = Problem(place, what, hint)
        if problem not in self.found:  # variants share most of their text, and so its mistakes
            self.found.append(problem)

    def raise_any(self, file: str, text: str = "") -> None:
        """:raises InvalidScenario: there is a problem."""
        if self.found:
            in_order = sorted(self.found, key=lambda problem: (problem.place.line, problem.place.column))
            raise InvalidScenario(file, in_order, text)


def nearest(name: str, names: Iterable[str]) -> str:
    """What to do about the unknown *name*: the nearest of *names*, or all of them."""
    known = sorted(names)
    if not known:
        return "there is none"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
