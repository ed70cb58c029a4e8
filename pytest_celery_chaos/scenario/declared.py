"""What Python code says of a scenario (the ``chaos`` marker, a ``when=``), read by the same rules as a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_celery_chaos.engine.plan import Moment, Plan
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario import fields, tree
from pytest_celery_chaos.scenario.compile import compile_scenario
from pytest_celery_chaos.scenario.decode import BAD, Decoder
from pytest_celery_chaos.scenario.entries import read_moment
from pytest_celery_chaos.scenario.model import Format, Scenario
from pytest_celery_chaos.scenario.names import check_names
from pytest_celery_chaos.scenario.vocabulary import Vocabulary

#: Keys of a file that a test says by its own code.
_BY_CODE = ("scenario", "steps", "variants", "expect", "pools")


def declared_plan(
    declared: Mapping[str, Any], *, title: str, server: str | None, pool: str | None, client: str | None = None
) -> Plan:
    """The plan of a test's environment.

    :param declared: the arguments of the ``chaos`` marker: keys of a scenario file.
    :param title: what reports call the run.
    :raises UsageError: a key or a value that a file could not have; all of them are told.
    """
    decoder = Decoder(Vocabulary())
    node = tree.wrap(declared, tree.Place("@pytest.mark.chaos", 0, 0))
    given = decoder.fields(node, fields.of_dataclass(Format).without(*_BY_CODE), "the chaos marker")
    assert isinstance(node, tree.Mapping)
    check_names(node, decoder.uses, decoder.vocabulary, decoder.problems)
    _raise_any(decoder, given)
    said = Format(scenario=title, steps=(), **given)
    return compile_scenario(Scenario("", {None: said}), server=server, pool=pool, client=client)[0]


def moment_of(given: Mapping[str, Any] | Moment) -> Moment:
    """The moment that *given* says, as ``when:`` of a file says it. Raises UsageError where it says none."""
    if isinstance(given, Moment):
        return given
    decoder = Decoder(Vocabulary())
    moment = read_moment(decoder, tree.wrap(given, tree.Place("when", 0, 0)))
    _raise_any(decoder, moment)
    assert isinstance(moment, Moment)
    return moment


def _raise_any(decoder: Decoder, value: Any) -> None:
    told = decoder.problems.found
    if value is BAD or told:
        raise UsageError("; ".join(each.what for each in told), hint="; ".join(each.hint for each in told if each.hint))
