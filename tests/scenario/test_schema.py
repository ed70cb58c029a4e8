"""The schema that ships and the reference page are what the code makes; editors accept what the loader accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_celery_chaos.scenario import schema, tree
from pytest_celery_chaos.scenario.discover import discover
from pytest_celery_chaos.scenario.load import parse
from pytest_celery_chaos.scenario.problems import Problems
from pytest_celery_chaos.scenario.reference import reference_page
from pytest_celery_chaos.scenario.vocabulary import BUILTIN_TASKS

HERE = Path(__file__).parent
GOOD = [*sorted(HERE.glob("good/*.chaos.yaml")), *discover()]
#: Their mistake is one of form, which an editor can show; the others' is one of meaning, or of YAML.
FORM = [
    *("unknown-top-key", "unknown-worker-key", "unknown-verb", "unknown-argument", "two-verbs", "no-verb", "octal"),
    *("check-among-steps", "verb-among-checks", "boolean-word", "bare-duration", "wrong-duration", "float-for-int"),
    *("wrong-choice", "wire-point", "point-or-event", "two-moments", "for-beside-a-workload", "hazard-incomplete"),
    *("missing-keys", "steps-not-a-list", "entry-not-a-mapping", "many-at-once", "queue-type", "nth-from-zero"),
    "a-list",
]
AGAIN = "run `python -m pytest_celery_chaos.scenario` and commit what it writes"


def plain(node: tree.Node) -> Any:
    """The node as an editor's YAML reader gives it."""
    if isinstance(node, tree.Mapping):
        return {key: plain(child) for key, child in node.items.items()}
    if isinstance(node, tree.Sequence):
        return [plain(child) for child in node.items]
    return node.value


def document(path: Path) -> Any:
    problems = Problems()
    root = parse(path.read_text(), str(path), problems)
    return plain(root) if root else None


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema.schema()
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def test_the_schema_that_ships_is_the_models() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), AGAIN


def test_the_reference_page_is_current() -> None:
    page = HERE.parents[1] / "docs" / "scenario.md"
    assert page.read_text(encoding="utf-8") == reference_page(), AGAIN


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name.partition(".")[0])
def test_the_schema_accepts_a_good_file(path: Path, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(document(path))] == []


@pytest.mark.parametrize("name", FORM)
def test_the_schema_rejects_a_file_whose_form_is_wrong(name: str, validator: Any) -> None:
    assert not validator.is_valid(document(HERE / "bad" / f"{name}.chaos.yaml") or [])


def test_the_builtin_tasks_are_those_of_the_builtin_application() -> None:
    import re

    import pytest_celery_chaos

    text = Path(pytest_celery_chaos.__file__).parent.joinpath("workers/inside/celery_chaos_tasks.py").read_text()
    assert sorted(re.findall(r'@app\.task\(name="(\w+)"', text)) == sorted(BUILTIN_TASKS)
