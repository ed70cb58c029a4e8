"""What a run proves: findings of checks, judged against what is recorded of them, and the verdict over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_celery_chaos.errors import StoredRunError
from pytest_celery_chaos.history.event import Event

VERSION = 1

Result = Literal["holds", "violated", "inconclusive"]
Outcome = Literal["as_recorded", "violated", "fixed", "regression", "inconclusive"]
Value = Literal["holds", "hazard", "violated", "inconclusive"]

#: So many events are kept as evidence of one finding; the whole history is beside the verdict.
EVIDENCE = 12


@dataclass(frozen=True)
class Finding:
    """What one check says of one history.

    :param outcome: ``inconclusive`` where the check saw nothing to judge, or could not know.
    :param why: one line, with times in seconds since the run's start.
    :param seen: the figure that a hazard pins; each check says in its docstring what it counts.
    :param evidence: the events that prove it, in order.
    """

    outcome: Result
    why: str
    seen: int | float | None = None
    evidence: tuple[Event, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON-ready data."""
        evidence = [_event_record(event) for event in self.evidence[:EVIDENCE]]
        return {"outcome": self.outcome, "why": self.why, "seen": self.seen, "evidence": evidence}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Finding:
        evidence = tuple(Event.from_record(event) for event in record["evidence"])
        return cls(record["outcome"], record["why"], record["seen"], evidence)


@dataclass(frozen=True)
class Judgement:
    """A finding beside what the scenario records.

    :param hazard: the hazard (as the plan has it) that the finding was held against, if one applies to this run.
    :param outcome: ``as_recorded``: it holds, or is violated exactly as the hazard says; ``fixed``: the hazard no
        longer shows; ``regression``: it shows, but not as recorded.
    :param always: not of the scenario's file: a check that judges every run.
    :param place: where the expectation stands, ``file:line:column``.
    """

    check: str
    args: Mapping[str, Any]
    finding: Finding
    outcome: Outcome
    hazard: Mapping[str, Any] | None = None
    always: bool = False
    place: str | None = None

    @property
    def why(self) -> str:
        """The finding's reason, and what the record says where the two differ."""
        if self.hazard is None or self.outcome == "inconclusive":
            return self.finding.why
        pinned = f"{self.hazard.get('ref')} records seen: {_figure(self.hazard.get('seen'))}"
        if self.outcome == "fixed":
            return f"{pinned}, but it holds now: {self.finding.why}"
        if self.outcome == "regression":
            return f"{pinned}, but seen is {_figure(self.finding.seen)}: {self.finding.why}"
        return f"{self.hazard.get('ref')}: {self.finding.why}"

    def to_record(self) -> dict[str, Any]:
        """As JSON-ready data."""
        record = {name: getattr(self, name) for name in ("check", "outcome", "always", "place")}
        record |= {"args": dict(self.args), "hazard": dict(self.hazard) if self.hazard else None}
        return record | {"finding": self.finding.to_record()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Judgement:
        finding = Finding.from_record(record["finding"])
        rest = (record["hazard"], record["always"], record["place"])
        return cls(record["check"], record["args"], finding, record["outcome"], *rest)


@dataclass(frozen=True)
class Verdict:
    """All judgements of one run.

    ``to_json`` and ``from_json`` are its form in ``verdict.json``.

    :param defects: what is wrong with the history itself; with any of these the run proves nothing.
    """

    judgements: Sequence[Judgement]
    scenario: str = ""
    variant: str | None = None
    defects: Sequence[str] = field(default=())

    @property
    def value(self) -> Value:
        """``holds``, or ``hazard`` where a recorded violation showed, ``violated`` or ``inconclusive``.

        What was seen to go wrong outweighs what could not be judged. Not so a hazard that did not show: where the
        fault never fired, it could not.
        """
        outcomes = {judgement.outcome for judgement in self.judgements}
        if self.defects or not self.judgements:
            return "inconclusive"
        if outcomes & {"violated", "regression"}:
            return "violated"
        if "inconclusive" in outcomes:
            return "inconclusive"
        if "fixed" in outcomes:
            return "violated"
        return "hazard" if any(judgement.hazard for judgement in self.judgements) else "holds"

    @property
    def as_recorded(self) -> bool:
        """Whether the run came out as its scenario says."""
        return self.value in ("holds", "hazard")

    @property
    def exit_code(self) -> int:
        """0 as recorded, 1 violated, 6 inconclusive."""
        return {"holds": 0, "hazard": 0, "violated": 1, "inconclusive": 6}[self.value]

    @property
    def decisive(self) -> Judgement | None:
        """The judgement that decided the value, for a line of a table; None where a defect did, or nothing."""
        if self.defects:
            return None
        rank = ("violated", "regression", "inconclusive", "fixed")
        worst = sorted((j for j in self.judgements if j.outcome in rank), key=lambda j: rank.index(j.outcome))
        return worst[0] if worst else next((j for j in self.judgements if j.hazard), None)

    @property
    def why(self) -> str:
        """One line: what decided."""
        if self.defects:
            return f"the record is damaged: {self.defects[0]}"
        if self.decisive is None:
            return "all checks hold" if self.judgements else "nothing was judged"
        name = self.decisive.check
        return f"{name}: {self.decisive.why}"

    def to_record(self) -> dict[str, Any]:
        """As JSON-ready data, for ``verdict.json``."""
        return {
            "verdict": VERSION,
            "scenario": self.scenario,
            "variant": self.variant,
            "value": self.value,
            "as_recorded": self.as_recorded,
            "why": self.why,
            "defects": list(self.defects),
            "judgements": [judgement.to_record() for judgement in self.judgements],
        }

    to_json = to_record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Verdict:
        """Read back what :meth:`to_record` gave. Raises StoredRunError if that is not what it is."""
        try:
            if record["verdict"] != VERSION:
                raise StoredRunError(f"verdict of version {record['verdict']!r}; this release reads {VERSION}")
            judgements = [Judgement.from_record(each) for each in record["judgements"]]
            return cls(judgements, record["scenario"], record["variant"], list(record["defects"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise StoredRunError(f"not a stored verdict: {error!r}", hint="judge the run again") from error

    from_json = from_record


def _event_record(event: Event) -> dict[str, Any]:
    names = ("t", "source", "kind", "phase", "task", "pid", "n", "by")
    return {name: getattr(event, name) for name in names} | {"attrs": dict(event.attrs)}


def _figure(seen: Any) -> str:
    if isinstance(seen, (list, tuple)):
        return " to ".join(_figure(each) for each in seen)
    return f"{seen:g}" if isinstance(seen, (int, float)) else "nothing"
