"""What a client's calls came to: an error, which and when, or an answer, or neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, TaskRef

Kind: TypeAlias = Literal["publish", "send", "get", "joined", "control"]
_CALLS: tuple[Kind, ...] = ("publish", "get", "joined", "control")


@dataclass(frozen=True)
class _Call:
    """A call of a client's, and how it ended: with an error, without, or (*end* None) not at all."""

    begin: Event
    end: Event | None
    seconds: float

    @property
    def error(self) -> str | None:
        """What it raised; the task's own exception, raised by `get`, is one as any other."""
        found = self.end.attrs.get("error") if self.end is not None else None
        return str(found) if found else None

    def told(self, history: History) -> str:
        what = f"{self.begin.kind} by {self.begin.source} at {view.at(history, self.begin)}"
        if self.end is None:
            return f"{what} was still blocked {self.seconds:.3f} s later"
        return f"{what} {f'raised {self.error}' if self.error else 'returned'} after {self.seconds:.3f} s"


def raises(
    history: History,
    *,
    call: Kind | None = None,
    task: TaskRef | None = None,
    error: str | None = None,
    within: Duration | None = None,
) -> Finding:
    """Every one of these calls of a client must raise an error, and in time: neither return nor block.

    *seen*: how many did otherwise. Inconclusive where no client made such a call.

    :param call: ``publish`` (to the broker), ``send`` (all of ``delay()``, which asks the result backend before it
        publishes), ``get`` (of a result), ``joined`` (``get`` of a group) or ``control`` (a remote-control command);
        None: all but ``send``.
    :param task: only calls for these tasks.
    :param error: the exception's type, ``OperationalError``; None: any.
    :param within: seconds from the call.
    """
    calls = list(_calls(history, call, task))
    if not calls:
        return _none(call, task)
    wanted = error or "an error"

    def as_wanted(each: _Call) -> bool:
        raised = (each.error or "").partition(":")[0]
        return bool(raised) and error in (None, raised) and (within is None or each.seconds <= within)

    return _judged(history, calls, [each for each in calls if not as_wanted(each)], f"raised {wanted}", within)


def returns(
    history: History,
    *,
    call: Kind | None = None,
    task: TaskRef | None = None,
    within: Duration | None = None,
    known: list[Literal["KF-97"]] | None = None,
) -> Finding:
    """Every one of these calls of a client must return, and in time: neither raise nor block.

    *seen*: how many did otherwise. Inconclusive where no client made such a call.

    :param call: ``publish`` (to the broker), ``send`` (all of ``delay()``, which asks the result backend before it
        publishes), ``get`` (of a result), ``joined`` (``get`` of a group) or ``control`` (a remote-control command);
        None: all but ``send``.
    :param task: only calls for these tasks.
    :param within: seconds from the call.
    :param known: calls that are not held against the run where the history proves their cause: ``KF-97`` (a ``get``
        that raised the KeyError of its own task's id while another of the same client was under way).
    """
    calls = list(_calls(history, call, task))
    raced = [each for each in calls if _raced(each, calls)] if known else []
    calls = [each for each in calls if each not in raced]
    if not calls:
        return _none(call, task)

    def as_wanted(each: _Call) -> bool:
        returned = each.end is not None and each.error is None
        return returned and (within is None or each.seconds <= within)

    wanted = f"returned (beside {len(raced)} of KF-97)" if raced else "returned"
    return _judged(history, calls, [each for each in calls if not as_wanted(each)], wanted, within)


def _raced(call: _Call, calls: Sequence[_Call]) -> bool:
    """Whether two threads met in the buffer that all of a client's readers share."""
    begin, end = call.begin, call.end
    if begin.kind != "get" or end is None or call.error != f"KeyError: '{begin.task}'":
        return False
    return any(
        other.begin.source == begin.source and other.begin.t < end.t and (other.end is None or other.end.t > begin.t)
        for other in calls
        if other is not call and other.begin.kind == "get"
    )


def _none(call: str | None, task: str | None) -> Finding:
    return view.inconclusive(f"no client called {call or 'anything'}" + (f" for {task!r}" if task else ""))


def _judged(
    history: History, calls: Sequence[_Call], others: Sequence[_Call], wanted: str, within: float | None
) -> Finding:
    bound = f" within {within:g} s" if within is not None else ""
    if not others:
        slowest = max(calls, key=lambda each: each.seconds)
        return Finding("holds", f"{view.plural(len(calls), 'call')} {wanted}{bound}; {slowest.told(history)}", 0)
    first = others[0]
    why = f"{len(others)} of {len(calls)} not {wanted}{bound}; {first.told(history)}"
    evidence = tuple(e for e in (first.begin, first.end) if e is not None)
    if within is not None and all(each.end is None and each.seconds <= within for each in others):
        return view.inconclusive(f"the run was over too soon to tell: {why}", *evidence)
    return Finding("violated", why, len(others), evidence)


def _calls(history: History, call: str | None, task: str | None) -> Iterator[_Call]:
    """Calls in the order of their begin. Two at once for the same thing, in two threads, end in either order."""
    ids = frozenset(history.ids(task)) if task is not None else None
    kinds = _CALLS if call is None else (call,)
    found: list[_Call] = []
    for kind in kinds:
        open_calls: dict[tuple[object, ...], list[Event]] = {}
        for event in history.of(kind):
            if event.role != "client" or not _concerns(event, ids):
                continue
            key = (event.source, event.pid, event.task, event.attrs.get("command"), tuple(event.attrs.get("ids") or ()))
            if event.phase == "invoke":
                open_calls.setdefault(key, []).append(event)
            elif open_calls.get(key):
                begin = open_calls[key].pop(0)
                found.append(_Call(begin, event, (event.t - begin.t) / 1e9))
        for begins in open_calls.values():
            found += [_Call(begin, None, (_over(history, begin) - begin.t) / 1e9) for begin in begins]
    yield from sorted(found, key=lambda each: each.begin.t)


def _concerns(event: Event, ids: frozenset[str] | None) -> bool:
    return ids is None or event.task in ids or not ids.isdisjoint(event.attrs.get("ids") or ())


def _over(history: History, begin: Event) -> int:
    """Until when a call that never ended could have: the client's end, or the run's."""
    gone = view.gone_after(history, begin.source, begin.t)
    return view.ended_at(gone) if gone else history.end
