"""Whether the system goes on after a fault: workers take messages again, and lost connections come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import Duration, StepRef, WorkerRef

#: Celery's default queue, for a worker that did not report its own.
_DEFAULT = ("celery",)


def consumes(
    history: History, *, within: Duration, worker: WorkerRef | None = None, since: StepRef | None = None
) -> Finding:
    """Every living worker must take messages: none may wait that long in its queues while it takes nothing.

    A process that lives, and even answers a ping, need not consume: only a message that it takes shows that. Not
    judged is a worker that ended before the time was up, whose prefetch limit was reached, or for which no message
    waited so long.

    *seen*: how many workers did not. Inconclusive where a worker could not be judged: give it something to take.

    :param within: seconds from *since*, or from when a message waits, whichever is later.
    :param worker: only this worker.
    :param since: a step, from when it was done (a fault: applied); by default the readiness of each worker.
    """
    begin = view.step_time(history, since) if since else None
    if since and begin is None:
        return view.inconclusive(f"step {since!r}, from which the time counts, was never done")
    waits = list(_waits(history))
    deaf: list[_Life] = []
    doubts: list[str] = []
    slowest, judged = 0.0, 0
    for life in _lives(history, worker, begin.t if begin else 0):
        pop = next((e for e in history.of("popped", source=life.source) if life.since <= e.t <= life.end), None)
        missed = next((wait for wait in waits if _missed(wait, life, pop, within)), None)
        if missed is not None and (full := _hands_full(history, life, missed, within)):
            doubts.append(f"{life.source} could take nothing more: {full}")
        elif missed is not None:
            deaf.append(life)
        elif pop is None and life.end < life.since + within * 1e9:
            continue
        elif pop is None:
            doubts.append(f"nothing was there for {life.source} to take")
        else:
            judged, slowest = judged + 1, max(slowest, (pop.t - life.since) / 1e9)
    if deaf:
        return _deaf(history, deaf, waits, within, since)
    if doubts or not judged:
        return view.inconclusive("; ".join(doubts) or "no worker was ready and lived so long")
    slow = f"the slowest its first {slowest:.3f} s after {since or 'it was ready'}"
    return Finding("holds", f"{view.plural(judged, 'worker')} took messages, {slow}", 0)


@dataclass(frozen=True)
class _Life:
    """One life of one worker: what it consumes, and from when (ns) it is to, until its end."""

    source: str
    queues: Sequence[str]
    since: int
    end: float
    ready: Event


@dataclass(frozen=True)
class _Wait:
    """A message lay in a queue from *begin* to *end* (ns)."""

    task: str
    queue: str | None
    begin: int
    end: float


def _lives(history: History, worker: str | None, begin: int) -> Iterator[_Life]:
    for ready in history.of("ready"):
        gone = view.gone_after(history, ready.source, ready.t)
        end = float(view.ended_at(gone)) if gone else float("inf")
        if end > begin and worker in (None, ready.name):
            queues = ready.attrs.get("queues") or _DEFAULT
            yield _Life(ready.source, queues, max(begin, ready.t), end, ready)


def _waits(history: History) -> Iterator[_Wait]:
    """When each message lay in its queue. One that was lost with its broker is in no key, and does not wait."""
    keys = view.last_keys(history)
    for task, events in history.by_task.items():
        lying, since = 0, 0
        queue: str | None = None
        for event in events:
            if _puts(event):
                queue = event.attrs.get("queue") or queue
                lying += 1
                since = event.t
            elif event.kind == "popped":
                if lying == 1:
                    yield _Wait(task, queue, since, event.t)
                lying -= 1  # below zero where the worker had it before its publisher could say so
        if lying > 0 and keys is not None and task in keys.kept:
            yield _Wait(task, queue, since, keys.event.t)


def _puts(event: Event) -> bool:
    if event.phase != "ok":
        return False
    if event.kind == "publish":
        return not event.attrs.get("unrouted")
    return event.kind == "restore" or (event.kind == "reject" and bool(event.attrs.get("requeue")))


def _missed(wait: _Wait, life: _Life, pop: Event | None, within: float) -> bool:
    """Whether the message waited so long for this worker, and it took nothing meanwhile."""
    due = max(wait.begin, life.since) + within * 1e9
    mine = wait.queue is None or wait.queue in life.queues
    return mine and wait.end >= due <= life.end and (pop is None or pop.t > due)


def _hands_full(history: History, life: _Life, wait: _Wait, within: float) -> str | None:
    """How many messages the worker held when it was due to take one, if it may hold no more."""
    due = max(wait.begin, life.since) + within * 1e9
    limits = [e for e in history.of("prefetch", source=life.source) if life.ready.t - 60e9 < e.t <= due]
    limit = limits[-1].attrs.get("count") if limits else None
    if not limit:
        return None
    held: Counter[str] = Counter()
    for kind in ("received", "ack", "reject", "restore"):
        for event in history.of(kind, source=life.source):
            if event.t > due or event.pid != life.ready.pid:
                continue
            if kind == "received":
                held[str(event.attrs.get("tag"))] += 1
            elif event.phase == "ok" and event.attrs.get("reason") != "sweep":
                held.pop(str(event.attrs.get("tag")), None)
    return f"it held {sum(held.values())} messages of a limit of {limit}" if sum(held.values()) >= limit else None


def _deaf(history: History, deaf: Sequence[_Life], waits: Sequence[_Wait], within: float, since: str | None) -> Finding:
    life = deaf[0]
    pops = history.of("popped", source=life.source)
    pop = next((e for e in pops if e.t >= life.since), None)
    wait = next(wait for wait in waits if _missed(wait, life, pop, within))
    why = f"{view.plural(len(deaf), 'worker')} took nothing within {within:g} s"
    why += f" of {since}: " if since else ": "
    why += f"{life.source} left {wait.task} waiting from {view.at(history, max(wait.begin, life.since))}"
    why += f"; it took its next message at {view.at(history, pop)}" if pop else ", and never took another message"
    before = [e for e in pops if e.t < life.since][-1:]
    puts = [e for e in history.by_task[wait.task] if _puts(e)][-1:]
    lost = history.of("connection_lost", source=life.source)[-2:]
    evidence = sorted([life.ready, *before, *puts, *lost, *([pop] if pop else [])], key=lambda e: e.t)
    return Finding("violated", why, len(deaf), tuple(evidence))


def reconnects(history: History, *, within: Duration, worker: WorkerRef | None = None) -> Finding:
    """A worker that lost its connection to the broker must wait for messages again, in time.

    Counted from the loss, or from when the server answered again where that is later. What counts is BRPOP sent on
    a new connection, not that one was made. A worker that ended meanwhile need not.

    *seen*: how many times it did not. Inconclusive where no connection was lost.

    :param within: seconds.
    :param worker: only this worker.
    """
    late: list[tuple[Event, Event | None]] = []
    times, slowest = 0, 0.0
    for lost, back in outages(history):
        if worker not in (None, lost.name):
            continue
        since = _answered(history, lost, back)
        until = back.t if back else history.end
        gone = view.gone_after(history, lost.source, lost.t)
        if back is None and gone is not None and (view.ended_at(gone) - since) / 1e9 <= within:
            continue
        times += 1
        took = (until - since) / 1e9
        if took > within:
            late.append((lost, back))
        elif back is None:
            return view.inconclusive(f"{lost.source} lost its connection {took:.3f} s before the run's end", lost)
        slowest = max(slowest, took)
    if late:
        lost, back = late[0]
        how = f"waited for messages again at {view.at(history, back)}" if back else "never waited for messages again"
        why = f"{view.often(len(late))} not within {within:g} s: {lost.source} lost its connection at "
        why += f"{view.at(history, lost)} ({str(lost.attrs.get('error', ''))[:80]}) and {how}"
        return Finding("violated", why, len(late), tuple(e for e in (lost, back) if e))
    if not times:
        return view.inconclusive("no worker that lived on lost its connection")
    return Finding("holds", f"back {view.often(times)}, after {slowest:.3f} s at most", 0)


def notices(history: History, *, since: StepRef, within: Duration, worker: WorkerRef | None = None) -> Finding:
    """A worker must notice in time that its broker is silent, and give up a connection that does not answer.

    One that does not notice waits as long as the connection stays open, and nothing in its log tells that it does.

    *seen*: how many workers did not. Inconclusive where no worker was there, or the run was over before.

    :param since: the step that silences the broker, from when it was done.
    :param within: seconds.
    :param worker: only this worker.
    """
    begin = view.step_time(history, since)
    if begin is None:
        return view.inconclusive(f"step {since!r} was never done")
    due = begin.t + within * 1e9
    there = [life for life in _lives(history, worker, begin.t) if life.ready.t < begin.t and life.end > due]
    if not there:
        return view.inconclusive(f"no worker was there at {since} and lived for {within:g} s more")
    lost = {life.source: _first_loss(history, life, begin.t) for life in there}
    late = [source for source, event in lost.items() if event is None or event.t > due]
    if late and history.end < due:
        return view.inconclusive(f"the run was over before {late[0]} was due to notice")
    if late:
        event = lost[late[0]]
        how = f"noticed at {view.at(history, event)}" if event else "never noticed"
        why = f"{view.plural(len(late), 'worker')} did not notice within {within:g} s of {since}: {late[0]} {how}"
        return Finding("violated", why, len(late), tuple(e for e in (begin, event) if e))
    slowest = max((event for event in lost.values() if event), key=lambda event: event.t)
    took = (slowest.t - begin.t) / 1e9
    return Finding("holds", f"{view.plural(len(lost), 'worker')} noticed, after {took:.3f} s at most", 0, (slowest,))


def _first_loss(history: History, life: _Life, since: int) -> Event | None:
    given_up = [e for kind in ("connection_lost", "connection_dropped") for e in history.of(kind, source=life.source)]
    return min((e for e in given_up if since <= e.t <= life.end), key=lambda event: event.t, default=None)


def outages(history: History) -> Iterator[tuple[Event, Event | None]]:
    """Each loss of a worker's connection, and when it next waited for messages (BRPOP on a new connection)."""
    covered: dict[str, float] = {}
    again: dict[str, list[Event]] = {}
    for event in history.of("consuming"):
        again.setdefault(event.source, []).append(event)
    for lost in history.of("connection_lost"):
        if lost.t <= covered.get(lost.source, -1):
            continue  # the same outage: an attempt to connect that failed
        back = next((e for e in again.get(lost.source, ()) if e.t > lost.t), None)
        covered[lost.source] = back.t if back else float("inf")
        yield lost, back


def _answered(history: History, lost: Event, back: Event | None) -> int:
    """From when the server could be reached: the loss, or the start of a server that was away."""
    until = back.t if back else history.end
    starts = [e.t for e in history.of("online") if lost.t < e.t <= until and e.role == "broker"]
    return max([lost.t, *starts])
