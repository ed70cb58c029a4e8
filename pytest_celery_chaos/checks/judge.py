"""From a history and its plan to a verdict: every check of the plan, the checks that always apply, and the hazards.

Works on stored data alone (``plan.json`` is the plan as a record), so that an old run can be judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_celery_chaos.checks import ALWAYS, CHECKS
from pytest_celery_chaos.checks.versions import matches
from pytest_celery_chaos.errors import ChaosError, UsageError
from pytest_celery_chaos.history.collector import uncollected
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding, Judgement, Outcome, Verdict


def judge(history: History, plan_record: Mapping[str, Any]) -> Verdict:
    """Judge one run.

    :param plan_record: what ``Plan.to_record`` gave, or ``plan.json`` read back.
    :raises UsageError: the plan expects a check that is not installed.
    """
    expectations = [dict(each) for each in plan_record.get("expect", ())]
    expected = {each["check"] for each in expectations}
    always = [{"check": name, "args": {}} for name in ALWAYS if name not in expected and _applies(name, plan_record)]
    with uncollected():
        judgements = [_judged(history, each, plan_record, always=True) for each in always]
        judgements += [_judged(history, each, plan_record, always=False) for each in expectations]
        return Verdict(judgements, plan_record.get("scenario", ""), plan_record.get("variant"), history.defects())


def _applies(name: str, plan: Mapping[str, Any]) -> bool:
    # Loops and held ETAs never fall quiet: who asks for `observe:` says that something is left at the end.
    return name != "clean_end" or plan.get("observe") is None


def _judged(history: History, expectation: Mapping[str, Any], plan: Mapping[str, Any], *, always: bool) -> Judgement:
    check, args = expectation["check"], dict(expectation.get("args") or {})
    finding = find(history, check, args)
    if check == "exercised" and finding.outcome == "holds" and (skipped := _skipped(history, plan)):
        finding = Finding("inconclusive", f"never carried out: {skipped}")
    if finding.outcome == "violated" and _could_still_happen(check, args, finding) and not _at_rest(history):
        why = f"the run was cut short, it could still have happened: {finding.why}"
        finding = Finding("inconclusive", why, finding.seen, finding.evidence)
    hazards = [
        hazard
        for hazard in expectation.get("hazards") or ()
        if hazard_applies(hazard, history, plan.get("variant"), plan)
    ]
    outcome, hazard = weigh(finding, hazards)
    return Judgement(check, args, finding, outcome, hazard, always, expectation.get("place"))


def _could_still_happen(check: str, args: Mapping[str, Any], finding: Finding) -> bool:
    """Whether the check misses something, for which no time had been set: more of the run could have brought it."""
    if check == "executions":
        wanted = args.get("exactly") or args.get("min") or 1
        return finding.seen is not None and finding.seen < wanted
    return check in ("completed", "redelivered", "requeued") and args.get("within") is None


def _at_rest(history: History) -> bool:
    return bool(history.of("quiet", "ok") or history.of("observed"))


def _skipped(history: History, plan: Mapping[str, Any]) -> str | None:
    """The first step of the plan that never took effect: its timer was not due yet, or the run ended before."""
    done = {
        e.attrs.get("index") for kind in ("fault", "step") for e in history.by_kind.get(kind, ()) if e.phase == "ok"
    }
    for step in plan.get("steps") or ():
        if step.get("index") not in done:
            return f"{step.get('verb')} {step.get('name') or ''}".strip() + f" ({step.get('place') or 'step'})"
    return None


def find(history: History, check: str, args: Mapping[str, Any]) -> Finding:
    """Run one check. A check that breaks proves nothing: its error is an inconclusive finding, not a traceback."""
    if check not in CHECKS:
        raise UsageError(f"no check is called {check!r}", hint=f"checks: {', '.join(sorted(CHECKS))}")
    try:
        finding = CHECKS[check].function(history, **args)
    except ChaosError as error:
        return Finding("inconclusive", f"not judged: {error.what}")
    except Exception as error:  # a third party's check, or a stored plan older than ours: never a clean verdict
        return Finding("inconclusive", f"the check itself failed: {type(error).__name__}: {error}")
    if not isinstance(finding, Finding):
        return Finding("inconclusive", f"the check gave {type(finding).__name__}, not a Finding")
    return finding


def hazard_applies(hazard: Mapping[str, Any], history: History, variant: str | None, plan: Mapping[str, Any]) -> bool:
    """Whether the hazard is recorded for this variant and for the versions that this run had."""
    variants: Sequence[str] = hazard.get("variant") or ()
    if isinstance(variants, str):
        variants = (variants,)
    if variants and variant not in variants:
        return False
    axes: Mapping[str, str] = plan.get("axes") or {}
    return all(matches(history, axes, name, wanted) for name, wanted in (hazard.get("where") or {}).items())


def weigh(finding: Finding, hazards: Sequence[Mapping[str, Any]]) -> tuple[Outcome, Mapping[str, Any] | None]:
    """Hold a finding against the hazards that apply: the outcome, and the hazard that it was decided by."""
    if finding.outcome == "inconclusive":
        return "inconclusive", None
    if not hazards:
        return ("as_recorded" if finding.outcome == "holds" else "violated"), None
    if finding.outcome == "holds":
        return "fixed", hazards[0]
    for hazard in hazards:
        if pinned(hazard.get("seen"), finding.seen):
            return "as_recorded", hazard
    return "regression", hazards[0]


def pinned(pin: Any, seen: float | None) -> bool:
    """Whether what was seen is what the hazard pins: that figure, or between its two bounds."""
    if seen is None or pin is None:
        return False
    if isinstance(pin, (list, tuple)):
        return len(pin) == 2 and bool(pin[0] <= seen <= pin[1])
    return bool(pin == seen)
