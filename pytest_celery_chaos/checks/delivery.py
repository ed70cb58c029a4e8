"""Conservation of messages: what the broker acknowledged is somewhere, and what arrives was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.checks.known_losses import Explanations, Known
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import TaskRef

#: So long (ns) a living worker may take from an acknowledgement to the start, or from the return to the stored result.
_UNDER_WAY = 5_000_000_000


def lost(history: History, *, task: TaskRef | None = None, known: list[Known] | None = None) -> Finding:
    """No message that the broker acknowledged may vanish before its task has ended.

    lost = acknowledged publishes - ended (succeeded, failed, revoked, expired, rejected) - waiting or unacknowledged
    in the last look at the keys - in the hands of a worker that still lives. A retry publishes its own id again and
    so continues. A publish whose answer was cut (*unknown*) is never lost; where it arrived it counts as recovered.

    *seen*: how many are lost. Inconclusive where nothing was acknowledged, or where something has not ended and no
    snapshot can tell where it is.

    :param task: only these; by default every message of the run.
    :param known: losses that are not held against the run where the history proves that a message is one of them:
        ``KF-30`` (acknowledged, then the process that had it died) and ``KF-32`` (popped, and its worker died or lost
        its connection before it was noted in `unacked`). For faults that strike at random.
    """
    ids = view.acknowledged(history, task)
    if not ids:
        return view.inconclusive("no publish was acknowledged, so nothing could be lost")
    keys = view.last_keys(history)
    fates: dict[str, list[str]] = {"ended": [], "kept": [], "held": [], "lost": []}
    doubts: list[str] = []
    for one in ids:
        fate = _fate(history, one, keys)
        if fate in fates:
            fates[fate].append(one)
        else:
            doubts.append(f"{one}: {fate}")
    explained: Counter[str] = Counter()
    if known and fates["lost"]:
        explanations = Explanations(history, known)
        causes = {one: explanations.explain(one) for one in fates["lost"]}
        explained.update(cause for cause in causes.values() if cause)
        fates["lost"] = [one for one, cause in causes.items() if not cause]
    if gone := fates["lost"]:
        evidence = _evidence(history, gone[0])
        why = f"{view.plural(len(gone), 'task')} lost of {len(ids)} acknowledged; {view.first_of(gone)}: "
        return Finding("violated", why + view.story(history, evidence) + ", then nothing", len(gone), evidence)
    if doubts:
        return view.inconclusive(f"{len(doubts)} of {len(ids)} cannot be judged; {doubts[0]}")
    parts = [f"{len(fates['ended'])} ended"]
    parts += [f"{len(fates['kept'])} still at the broker"] if fates["kept"] else []
    parts += [f"{len(fates['held'])} in the hands of a living worker"] if fates["held"] else []
    if recovered := len(view.delivered(history, task)) - len(ids):
        parts.append(f"{recovered} more recovered (publish not acknowledged, and arrived)")
    parts += [f"{count} lost as {cause} says" for cause, count in sorted(explained.items())]
    none = "none lost" if not explained else "none lost without a known cause"
    return Finding("holds", f"{none} of {len(ids)} acknowledged: {', '.join(parts)}", 0)


def _fate(history: History, task: str, keys: view.Keys | None) -> str:
    """``ended``, ``kept``, ``held`` or ``lost``; anything else says why nobody can know."""
    events = history.by_task[task]
    if view.ending(events):
        return "ended"
    if held_by_living_worker(history, events, keys.event.t if keys else history.end):
        return "held"
    if keys is None:
        return "it has not ended, and the keys were never looked at"
    if keys.results.get(task) in view.READY_STATES:
        return "ended"
    move = view.last_move(events)
    if move is not None and move.t > keys.event.t:
        return f"{view.told(history, move)} came after the last look at the keys"
    if task in keys.kept:
        return "kept"
    queues = {e.attrs.get("queue") for e in events if e.kind == "publish"} - {None}
    if unseen := sorted(str(queue) for queue in queues if queue not in keys.queues):
        return f"it was sent to queue {unseen[0]!r}, which the snapshot does not cover"
    return "lost"


def held_by_living_worker(history: History, events: Sequence[Event], now: int) -> bool:
    """Whether a worker (and pool process) that has the message, or runs it, was alive at the last look."""
    for arrival in events:
        if arrival.kind not in ("popped", "received") or arrival.t > now:
            continue
        gone = view.gone_after(history, arrival.source, arrival.t)
        # Where a run is observed for a time, the harness ends what still works, whatever it is just doing.
        if gone is not None and view.ended_at(gone) <= now and not view.at_the_end(history, gone):
            continue
        since = [e for e in events if e.source == arrival.source and arrival.t <= e.t <= now]
        runs = [e for e in since if e.kind in ("started", "returned", "raised")]
        acked = any(e.kind == "ack" and e.phase == "ok" for e in since)
        if (
            arrival.kind == "popped"
            and not any(e.kind == "received" for e in since)
            and _cut_off(history, arrival, now)
        ):
            continue  # KF-32: it was not noted in `unacked` before the connection was gone
        if acked and sum(e.kind == "settled" for e in since) >= max(1, sum(e.kind == "received" for e in since)):
            continue  # it has said itself that it is done with every copy: a message that it swallowed is not in hand
        if runs and runs[-1].kind == "started":
            child = view.lost_child(history, runs[-1])
            if child is None or child.t > now:
                return True
        elif not acked or now - since[-1].t < _UNDER_WAY:
            return True
    return False


def _cut_off(history: History, arrival: Event, now: int) -> bool:
    """Whether the worker has lost its connection to the broker since."""
    lost = history.by_kind.get("connection_lost", ())
    return any(e.source == arrival.source and arrival.t <= e.t <= now for e in lost)


def _evidence(history: History, task: str) -> tuple[Event, ...]:
    """The last steps of a message, with the end of each worker that had it."""
    events = [e for e in history.by_task[task] if e.kind not in ("held", "released")]
    had = [e for e in events if e.kind in ("popped", "received", "started")]
    ends = {(gone.source, gone.t): gone for e in had if (gone := view.gone_after(history, e.source, e.t))}
    return tuple(sorted([*events[-6:], *ends.values()], key=lambda e: e.t))


def unexpected(history: History, *, task: TaskRef | None = None) -> Finding:
    """No message may arrive that nobody tried to publish before.

    *seen*: how many did. Inconclusive where nothing arrived at all.

    :param task: only these; by default every message of the run.
    """
    arrived = 0
    strangers: list[str] = []
    for one in history.ids(task):
        events = history.by_task[one]
        arrival = next((e for e in events if e.kind in ("popped", "received", "started")), None)
        if arrival is None:
            continue
        arrived += 1
        attempt = view.first(events, "publish", "invoke")
        if attempt is None or attempt.t > arrival.t:
            strangers.append(one)
    if not arrived:
        if view.somebody_listened(history):
            return Finding("holds", "no message arrived, though a worker waited for messages", 0)
        return view.inconclusive("no message arrived at any worker, and no worker waited for one")
    if strangers:
        evidence = tuple(history.by_task[strangers[0]][:4])
        why = f"{len(strangers)} of {arrived} messages had not been published before; {view.first_of(strangers)}: "
        return Finding("violated", why + view.story(history, evidence), len(strangers), evidence)
    return Finding("holds", f"all {arrived} messages that arrived had been published", 0)
