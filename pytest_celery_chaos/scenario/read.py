"""From a file to a scenario: all that is wrong with it is told at once, and nothing is started."""

from __future__ import annotations

from pathlib import Path

from pytest_celery_chaos.scenario import fields
from pytest_celery_chaos.scenario.decode import BAD, Decoder
from pytest_celery_chaos.scenario.lint import lint
from pytest_celery_chaos.scenario.load import parse, read_text
from pytest_celery_chaos.scenario.model import Format, Scenario
from pytest_celery_chaos.scenario.names import check_names
from pytest_celery_chaos.scenario.problems import Problems
from pytest_celery_chaos.scenario.variants import expand
from pytest_celery_chaos.scenario.vocabulary import Vocabulary


def load_scenario(path: Path | str, vocabulary: Vocabulary | None = None) -> Scenario:
    """Read, check and lint a scenario file.

    :param vocabulary: the verbs and tasks that it may use; default: those that are installed.
    :raises ScenarioError: the file cannot be read, or has mistakes: an
        :class:`~pytest_celery_chaos.scenario.problems.InvalidScenario` with each and its place.
    """
    file = Path(path)
    return scenario_of(read_text(file), str(file), vocabulary)


def scenario_of(text: str, file: str, vocabulary: Vocabulary | None = None) -> Scenario:
    """The scenario of a file's text.

    :param file: how messages name it.
    :raises InvalidScenario: it has mistakes.
    """
    problems, known = Problems(), vocabulary or Vocabulary()
    root = parse(text, file, problems)
    formats: dict[str | None, Format] = {}
    if root is not None:
        trees = expand(root, problems)
        for variant, tree in trees.items():
            decoder = Decoder(known, problems)
            given = decoder.fields(tree, fields.of_dataclass(Format), "")
            check_names(tree, decoder.uses, known, problems)
            if given is not BAD:
                # A link is declared by its use, wherever a name of one may stand.
                links = dict.fromkeys(use.name for use in decoder.uses if use.kind == "link")
                formats[variant] = Format(**{**given, "links": list(links)})
                lint(formats[variant], decoder, tree, [name for name in trees if name])
    problems.raise_any(file, text)
    return Scenario(file, formats)
