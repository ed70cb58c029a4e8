"""How long things took: as figures in the verdict, and held against a bound where one is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.liveness import outages
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, TaskRef

_ENDS = ("succeeded", "failed", "revoked")


@dataclass(frozen=True)
class _Span:
    """From one event to another; without *end* it lasted at least until the run was over."""

    begin: Event
    end: Event | None
    seconds: float


def latency(
    history: History,
    *,
    of: Literal["publish", "queueing", "execution", "completion", "redelivery", "recovery", "soft_shutdown"],
    task: TaskRef | None = None,
    max: Duration | None = None,
    p99: Duration | None = None,
    p50: Duration | None = None,
    min: Duration | None = None,
) -> Finding:
    """How long something took: median, 99th percentile and maximum, as figures; with bounds, held against them.

    Measured is ``publish`` from a client's call to its return; ``queueing`` from the acknowledged publish until a
    worker has taken the message; ``execution`` from the start of the task's body to its end, where its process
    survived it; ``completion`` from the acknowledged publish to the task's end; ``redelivery`` from a receipt to the
    next of the same message, where there was one; ``recovery`` from the loss of a worker's connection until it waits
    for messages again; ``soft_shutdown``: what a worker that was told to go leaves to its running tasks.

    What was still open when the run was over counts with the time that it had taken by then.

    *seen*: the maximum, in seconds; where another figure is out of its bounds, that figure. Inconclusive where nothing
    of the kind happened.

    :param of: what is measured.
    :param task: only these tasks; not for ``recovery`` and ``soft_shutdown``.
    :param max: seconds that none may take longer.
    :param p99: seconds that 99 of 100 may not take longer.
    :param p50: seconds that half of them may not take longer.
    :param min: seconds that each must take at least.
    """
    spans = sorted(_SPANS[of](history, task), key=lambda span: span.seconds)
    if not spans:
        return view.inconclusive(f"no {of} to be measured")
    figures = {"p50": _percentile(spans, 50), "p99": _percentile(spans, 99), "max": spans[-1]}
    told = ", ".join(f"{name} {span.seconds:.3f} s" for name, span in figures.items())
    still = sum(span.end is None for span in spans)
    why = f"{of} of {len(spans)}: {told}" + (f" ({still} still open in the end)" if still else "")
    seen = round(spans[-1].seconds, 6)
    bounds = {"p50": p50, "p99": p99, "max": max}
    over = [name for name, bound in bounds.items() if bound is not None and figures[name].seconds > bound]
    if over:
        return _violated(history, figures[over[-1]], f"{why}; {over[-1]} was to be {bounds[over[-1]]:g} s at most")
    if min is not None and spans[0].seconds < min:
        return _violated(history, spans[0], f"{why}; each was to take {min:g} s at least")
    return Finding("holds", why, seen)


def _violated(history: History, span: _Span, why: str) -> Finding:
    """The finding on a span that took too long, or not long enough; *seen* is what it took."""
    begin, end = span.begin, span.end
    why += f": {view.told(history, begin)}" + (f" of {begin.task}" if begin.task else "")
    return Finding("violated", why, round(span.seconds, 6), (begin, end) if end is not None else (begin,))


def _percentile(spans: Sequence[_Span], percent: int) -> _Span:
    """By nearest rank: the smallest that so many of a hundred do not exceed."""
    return spans[-(-len(spans) * percent // 100) - 1]


def _span(history: History, begin: Event, end: Event | None) -> _Span:
    # A worker may have the message before its publisher can write down that the server has answered.
    until = end.t if end is not None else history.end
    return _Span(begin, end, (until - begin.t) / 1e9 if until > begin.t else 0.0)


def _publishes(history: History, task: str | None) -> Iterator[_Span]:
    for one in history.ids(task):
        begun: Event | None = None
        for event in history.by_task[one]:
            if event.kind == "publish" and event.role == "client":
                if event.phase == "invoke":
                    begun = event
                elif begun is not None:
                    yield _span(history, begun, event)
                    begun = None
        if begun is not None:
            yield _span(history, begun, None)


def _since_publish(reached: Callable[[Event], bool]) -> Callable[[History, str | None], Iterator[_Span]]:
    def spans(history: History, task: str | None) -> Iterator[_Span]:
        for one in view.acknowledged(history, task):
            events = history.by_task[one]
            published = view.first(events, "publish", "ok")
            if published is not None:
                yield _span(history, published, next((e for e in events if reached(e)), None))

    return spans


def _executions(history: History, task: str | None) -> Iterator[_Span]:
    for one in history.ids(task):
        running: dict[tuple[str, int], Event] = {}
        for event in history.by_task[one]:
            process = (event.source, event.pid)
            if event.kind == "started":
                running[process] = event
            elif event.kind in ("returned", "raised") and process in running:
                yield _span(history, running.pop(process), event)


def _redeliveries(history: History, task: str | None) -> Iterator[_Span]:
    for one in history.ids(task):
        last: dict[str, Event] = {}
        for event in history.by_task[one]:
            if event.kind == "received":
                tag = str(event.attrs.get("tag"))
                if tag in last:
                    yield _span(history, last[tag], event)
                last[tag] = event


def _recoveries(history: History, task: str | None) -> Iterator[_Span]:
    for lost, back in outages(history):
        if back is not None or view.gone_after(history, lost.source, lost.t) is None:
            yield _span(history, lost, back)


def _soft_shutdowns(history: History, task: str | None) -> Iterator[_Span]:
    for begun in history.of("soft_wait", "invoke"):
        ends = (e for e in history.of("soft_wait", "ok", source=begun.source) if e.t >= begun.t and e.pid == begun.pid)
        yield _span(history, begun, next(ends, None))


_SPANS = {
    "publish": _publishes,
    "queueing": _since_publish(lambda event: event.kind == "popped"),
    "execution": _executions,
    "completion": _since_publish(lambda event: event.kind in _ENDS),
    "redelivery": _redeliveries,
    "recovery": _recoveries,
    "soft_shutdown": _soft_shutdowns,
}
