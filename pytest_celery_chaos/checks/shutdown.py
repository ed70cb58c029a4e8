"""How a worker goes, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, SignalName, StepRef, TaskRef, WorkerRef

_STOPS = frozenset({"stop", "kill", "restart"})


def requeued(history: History, *, task: TaskRef, worker: WorkerRef | None = None) -> Finding:
    """What a worker had not finished when it went must be back in its queue, not acknowledged and not left behind.

    Back is a message that its worker restored before it was gone, that the next look at the keys shows in a queue,
    or that was received again before anybody swept. Tasks that ended well before the worker was gone need not be.

    *seen*: how many are not back. Inconclusive where the worker had nothing left, or never went.

    :param worker: the worker that goes; None: whichever had the message.
    """
    if not (ids := view.delivered(history, task)):
        return view.nothing_called(history, task)
    looks = [keys for keys in map(view.keys_of, history.of("snapshot")) if keys]
    back, missing, doubts = list[str](), list[tuple[str, str, Event]](), list[str]()
    for one in ids:
        events = history.by_task[one]
        if (had := _had(history, events, worker)) is None:
            continue
        receipt, gone = had
        fate = _fate(history, one, looks, receipt, gone)
        if fate is None:
            back.append(one)
        elif fate.startswith("unknown: "):
            doubts.append(f"{one}: {fate.removeprefix('unknown: ')}")
        elif fate != "ended":
            missing.append((one, fate, gone))
    if missing:
        one, fate, gone = missing[0]
        which = view.first_of([each for each, _, _ in missing])
        why = f"{len(missing)} of {len(missing) + len(back)} not back; {which}: {fate} "
        why += f"({gone.source} gone at {view.at(history, view.ended_at(gone))})"
        evidence = tuple(sorted([*history.by_task[one][-6:], gone], key=lambda e: e.t))
        return Finding("violated", why, len(missing), evidence)
    if doubts:
        return view.inconclusive(doubts[0])
    if not back:
        return view.inconclusive("no worker that went had any of these unfinished")
    return Finding("holds", f"{view.plural(len(back), 'message')} back in the queue", 0)


def _had(history: History, events: Sequence[Event], worker: str | None) -> tuple[Event, Event] | None:
    """The first receipt by a worker that went, and the worker's end."""
    for event in events:
        if event.kind == "received" and (worker is None or event.name == worker):
            gone = view.gone_after(history, event.source, event.t)
            if gone is not None and (worker is not None or not view.at_the_end(history, gone)):
                return event, gone
    return None


def _fate(history: History, task: str, looks: Sequence[view.Keys], receipt: Event, gone: Event) -> str | None:
    """None: it is back; ``ended``: it need not be; else why it is not, or why nobody knows (``unknown: …``)."""
    events, left = history.by_task[task], view.ended_at(gone)
    mine = [e for e in events if e.source == receipt.source and receipt.t <= e.t <= gone.t]
    if any(e.kind == "restore" and e.phase == "ok" and e.attrs.get("reason") != "sweep" for e in mine):
        return None
    end = view.ending(mine)
    if end is not None and end.kind != "failed" and end.attrs.get("state") != "FAILURE":
        return "ended"
    acked = view.first(mine, "ack", "ok")
    if acked is not None:
        return f"acknowledged at {view.at(history, acked)} {'as failed' if end else 'without an end'}"
    swept = next((e.t for e in events if e.kind == "restore" and e.attrs.get("reason") == "sweep" and e.t > left), None)
    look = next((keys for keys in looks if keys.event.t >= left), None)
    again = next((e for e in events if e.kind == "received" and e.t > left), None)
    if again is not None and (swept is None or again.t < swept) and (look is None or again.t < look.event.t):
        return None
    if swept is not None and (look is None or swept < look.event.t):
        return f"left unacknowledged, restored by a sweep at {view.at(history, swept)}"
    if look is None:
        return "unknown: nobody looked at the keys after the worker was gone"
    if any(task in queue for queue in look.queues.values()):
        return None
    where = "left in unacked" if task in look.unacked.values() else "neither in a queue nor in unacked"
    return f"{where} at {view.at(history, look.event)}"


def exits(
    history: History,
    *,
    worker: WorkerRef,
    within: Duration,
    since: StepRef | None = None,
    code: int | None = None,
    signal: SignalName | None = None,
) -> Finding:
    """A worker must be gone in time once it has been told to, and the way it is expected to.

    *seen*: the seconds it took; the exit code (a signal as a negative number) where that is wrong; where it never
    went by itself, the seconds until the run was over.

    :param within: seconds from *since*.
    :param since: a step, from its beginning; by default the last one that stops or kills this worker.
    :param code: the exit code it must have.
    :param signal: the signal it must have died of.
    """
    source = f"worker:{worker}"
    start = view.step_time(history, since, begun=True) if since else _told_to_go(history, worker)
    if start is None:
        return view.inconclusive(f"step {since!r} never began" if since else f"nobody told worker {worker!r} to go")
    gone = view.gone_after(history, source, start.t)
    over = next((e.t for k in ("quiet", "observed", "end") for e in history.of(k) if e.t > start.t), history.end)
    if gone is None or view.ended_at(gone) > over:
        waited = (over - start.t) / 1e9
        why = f"{source} was told to go at {view.at(history, start)} and was still there {waited:.3f} s later"
        return Finding("violated", why, waited, (start,)) if waited > within else view.inconclusive(why, start)
    took = (view.ended_at(gone) - start.t) / 1e9
    by = gone.attrs.get("signal")
    actual = -view.signal_number(by) if by else gone.attrs.get("code")
    told = f"{source} was gone {took:.3f} s after {view.at(history, start)}, with {view.how_it_ended(gone)}"
    if took > within:
        return Finding("violated", f"{told}, not within {within:g} s", took, (start, gone))
    if (code is not None and actual != code) or (signal is not None and actual != -view.signal_number(signal)):
        wanted = f"code {code}" if code is not None else f"signal {signal}"
        return Finding("violated", f"{told}, not {wanted}", actual, (start, gone))
    return Finding("holds", f"{told}; {within:g} s were allowed", took, (start, gone))


def _told_to_go(history: History, worker: str) -> Event | None:
    """The last step that ends this worker, else the first signal that it got."""
    steps = [
        e
        for e in history.of("fault", "invoke")
        if e.attrs.get("verb") in _STOPS and (e.attrs.get("args") or {}).get("worker") == worker
    ]
    return steps[-1] if steps else next(iter(history.of("signal", source=f"worker:{worker}")), None)
