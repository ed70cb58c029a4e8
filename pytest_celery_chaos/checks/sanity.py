"""Checks that judge every run: nobody died unasked, nothing critical, a clean end, and a run that tested something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.delivery import held_by_living_worker
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding

#: Processes that carry the recorder, the test's own apart.
_RECORDED = frozenset({"worker", "beat", "client"})


def workers_alive(history: History) -> Finding:
    """No worker, beat or client may end that neither a step nor the harness ended.

    *seen*: how many did. Inconclusive where no worker was ever ready: one that does not even start proves nothing.
    """
    ready = {e.source for kind in ("ready", "ticking") for e in history.of(kind)}
    ended = [e for e in history.of("offline") if e.role in _RECORDED and not e.attrs.get("asked")]
    if died := [e for e in ended if e.source in ready or e.role == "client"]:
        first = died[0]
        what = view.plural(len(died), first.role) if len({e.role for e in died}) == 1 else f"{len(died)} processes"
        why = f"{what} ended unasked: {first.source} at {view.at(history, first)}, "
        why += view.how_it_ended(first)
        return Finding("violated", why, len(died), tuple(died))
    if ended:
        return view.inconclusive(f"{ended[0].source} ended before it was ever ready, {view.how_it_ended(ended[0])}")
    workers = [source for source in ready if source.startswith("worker:")]
    if not workers:
        return view.inconclusive("no worker was ever ready")
    return Finding("holds", f"none of {view.plural(len(workers), 'worker')} ended unasked", 0)


def no_critical(history: History, *, known: list[Literal["KF-91", "C2"]] | None = None) -> Finding:
    """No log of a worker, beat or client may have a line of level CRITICAL.

    *seen*: how many lines. Inconclusive where no worker ran.

    :param known: lines that are not held against the run where the history proves their cause: ``KF-91`` (the
        connection was lost before the server had answered an acknowledgement), ``C2`` (a cold shutdown on the threads
        pool, which cannot end a running task). For faults that strike at random.
    """
    lines = history.of("critical")
    explained = {ref: _CRITICAL[ref](history) for ref in known or ()}
    if lines := [line for line in lines if not any(line in theirs for theirs in explained.values())]:
        first = lines[0]
        what = f"{first.source} at {view.at(history, first)}: {str(first.attrs.get('line', ''))[:200]}"
        return Finding("violated", f"{view.plural(len(lines), 'CRITICAL line')}; {what}", len(lines), tuple(lines))
    if not any(e.role == "worker" for e in history.of("hello")):
        return view.inconclusive("no worker ran, so no log was written")
    beside = "".join(f", beside {len(theirs)} of {ref}" for ref, theirs in explained.items() if theirs)
    return Finding("holds", f"no CRITICAL line in any worker's log{beside}", 0)


def _unanswered_acks(history: History) -> list[Event]:
    """Lines that tell of an acknowledgement whose answer did not come: its worker had just written down so itself."""
    acks = [event for phase in ("unknown", "fail") for event in history.of("ack", phase)]
    found = []
    for line in history.of("critical"):
        mine = (
            ack.attrs.get("tag") for ack in acks if (ack.source, ack.pid) == (line.source, line.pid) and ack.t < line.t
        )
        if any(str(tag) in str(line.attrs.get("line")) for tag in mine):
            found.append(line)
    return found


def _cold_threads(history: History) -> list[Event]:
    """Lines of workers on threads that had been told to shut down cold: the pool has no `kill_job`."""
    threads = {(e.source, e.pid) for e in history.of("ready") if e.attrs.get("pool") == "threads"}
    cold = {
        (e.source, e.pid): e.t
        for e in history.of("signal")
        if e.attrs.get("handler") == "worker_Cold" and (e.source, e.pid) in threads
    }
    return [
        line
        for line in history.of("critical")
        if cold.get((line.source, line.pid), line.t) < line.t and "kill_job" in str(line.attrs.get("line"))
    ]


#: What `no_critical` can be told to know, and how the history proves it.
_CRITICAL: Mapping[str, Callable[[History], list[Event]]] = {"KF-91": _unanswered_acks, "C2": _cold_threads}


def clean_end(history: History) -> Finding:
    """In the end nothing may be left at the broker: queues, ``unacked`` and its index are empty and agree, no mutex.

    *seen*: how many messages, entries and locks are left. Inconclusive where nobody looked at the keys after the
    last message had moved, or where the wait for quiet was over while a worker was still busy: that was no end.
    """
    keys = view.last_keys(history)
    if keys is None:
        return view.inconclusive("the keys were never looked at")
    moves = [
        e for kind in ("publish", "popped", "restore") for e in history.by_kind.get(kind, ()) if e.t > keys.event.t
    ]
    if moves:
        return view.inconclusive(f"{view.told(history, moves[-1])} came after the last look at the keys")
    left = [f"queue {name}: {view.some(ids)}" for name, ids in sorted(keys.queues.items()) if ids]
    left += [f"unacked: {view.some(sorted(keys.unacked.values()))}"] if keys.unacked else []
    without = sorted(set(keys.index) ^ set(keys.unacked))
    left += [f"unacked and its index differ in tags {view.some(without)}"] if without else []
    left += ["unacked_mutex is set"] if keys.mutex else []
    damaged = keys.event.attrs.get("damaged", ())
    left += [f"of the wrong type: {view.some(damaged)}"] if damaged else []
    if left:
        if busy := _busy(history, keys):
            return view.inconclusive(f"the end was not awaited: {busy} was still in the hands of a worker")
        count = (
            sum(map(len, keys.queues.values())) + len(set(keys.unacked) | set(keys.index)) + keys.mutex + len(damaged)
        )
        why = f"{view.plural(count, 'thing')} left at {view.at(history, keys.event)}: {'; '.join(left)}"
        return Finding("violated", why, count)
    return Finding("holds", f"nothing left at {view.at(history, keys.event)} in {len(keys.queues)} queues", 0)


def _busy(history: History, keys: view.Keys) -> str | None:
    """A task that a living worker had not done when the wait for quiet was given up."""
    if not history.of("quiet", "fail"):
        return None
    at_work = (one for one, events in history.by_task.items() if not view.ending(events))
    return next((one for one in at_work if held_by_living_worker(history, history.by_task[one], keys.event.t)), None)


def exercised(history: History) -> Finding:
    """The run must have tested something: whatever was armed came, every fault took effect, tasks reached workers.

    Never violated: where something is missing, the run is inconclusive, and the reason names it.
    """
    doubts = [*_record(history), *_moments(history), *_processes(history), *_traffic(history)]
    if doubts:
        more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
        return view.inconclusive(doubts[0] + more)
    done = len(history.of("fault", "ok"))
    return Finding(
        "holds", f"{view.plural(done, 'fault')} took effect, {len(history.of('held'))} at a held moment", done
    )


def _record(history: History) -> Iterator[str]:
    for kind in ("hook_missing", "hook_failed"):
        for event in history.of(kind):
            yield f"the recorder in {event.source} could not do its work: {kind} {event.attrs.get('hook')}"
    for error in history.of("error"):
        yield f"the harness failed at {view.at(history, error)}: {_brief(error.attrs.get('error'))}"
    for defect in history.defects():
        yield f"the record is damaged: {defect}"
    if not history.of("end"):
        yield "the run was interrupted: it has no end"


def _moments(history: History) -> Iterator[str]:
    for event in history.of("missed"):
        yield f"never reached: {event.attrs.get('verb') or 'step'} {event.attrs.get('moment')}"
    fired = {rule for event in history.of("held") for rule in event.attrs.get("rules", ())}
    done = {e.attrs.get("index") for kind in ("fault", "step") for e in history.of(kind, "ok")}
    for event in history.of("armed"):
        if event.attrs.get("rule") not in fired and event.attrs.get("index", -1) not in done:
            yield f"never fired: {event.attrs.get('verb') or 'step'} {event.attrs.get('moment')}"
    for event in history.of("released"):
        if event.attrs.get("how") == "deadline":
            yield f"{event.source} was held longer than the deadline, until {view.at(history, event)}"
    for kind in ("fault", "step", "heal"):
        for event in history.of(kind, "fail"):
            name = event.attrs.get("name") or event.attrs.get("verb")
            yield f"{kind} {name} failed at {view.at(history, event)}: {_brief(event.attrs.get('error'))}"
        ended = {e.attrs.get("index") for phase in ("ok", "fail") for e in history.of(kind, phase)}
        for event in history.of(kind, "invoke"):
            if event.attrs.get("index") not in ended:
                yield f"{kind} {event.attrs.get('name') or event.attrs.get('verb')} was begun and never done"


def _processes(history: History) -> Iterator[str]:
    says_ready = {e.source for kind in ("hello", "offline") for e in history.of(kind) if e.role in ("worker", "beat")}
    ready = {e.source for kind in ("ready", "ticking") for e in history.of(kind)}
    for source in sorted(says_ready - ready):
        yield f"{source} was never ready"
    if not any(source.startswith("worker:") for source in ready):
        yield "no worker was ever ready"


def _traffic(history: History) -> Iterator[str]:
    for event in history.of("quiet", "fail"):
        yield f"no quiet after {event.attrs.get('seconds', '?')} s; last: {_brief(event.attrs.get('last'))}"
    if not history.of("quiet") and not history.of("observed"):
        yield "the run neither fell quiet nor was observed for a time"
    published = history.of("publish", "invoke")
    if not published:
        yield "nothing was published"
    elif not history.of("popped") and not history.of("received") and not view.somebody_listened(history):
        yield "no task reached any worker, and no worker waited for one"


def _brief(what: object) -> str:
    return str(what).split("\n", 1)[0][:200]
