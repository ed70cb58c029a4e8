"""Whether workers answer remote-control commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import WorkerRef


def answered(history: History, *, command: str | None = None, worker: WorkerRef | None = None) -> Finding:
    """Every remote-control command that waits for replies must be answered by every worker that lives.

    A worker may take tasks and hear no command, or answer and take no task: for the other half there is ``consumes``.

    *seen*: how many replies are missing. Inconclusive where no client waited for replies to such a command while a
    worker lived.

    :param command: only this command: ping, stats …
    :param worker: only this worker's replies.
    """
    missing: list[tuple[Event, str]] = []
    got = asked = 0
    for begin, end in _calls(history, command):
        replies = end.attrs.get("replies")
        if end.phase == "ok" and replies is None:
            continue  # nobody was asked to reply
        for ready in _living(history, begin, end, worker):
            asked += 1
            if ready.attrs.get("hostname") in (replies or {}):
                got += 1
            else:
                missing.append((end, ready.source))
    if missing:
        first, source = missing[0]
        error = first.attrs.get("error")
        why = f"{len(missing)} of {asked} replies missing: {first.attrs.get('command')} by {first.source} "
        why += f"at {view.at(history, first)} was not answered by {source}" + (f" ({error})" if error else "")
        return Finding("violated", why, len(missing), tuple(end for end, _ in missing))
    if not asked:
        whose = f"worker:{worker}" if worker else "a worker that lived"
        return view.inconclusive(f"no client waited for a reply to {command or 'a command'} from {whose}")
    return Finding("holds", f"{got} of {asked} replies came", 0)


def _calls(history: History, command: str | None) -> Iterator[tuple[Event, Event]]:
    """Each command of a client, from its broadcast to the end of its wait for replies."""
    open_calls: dict[tuple[str, int, object], list[Event]] = {}
    for event in history.of("control"):
        if event.role != "client" or command not in (None, event.attrs.get("command")):
            continue
        calls = open_calls.setdefault((event.source, event.pid, event.attrs.get("command")), [])
        if event.phase == "invoke":
            calls.append(event)
        elif calls:
            yield calls.pop(0), event


def _living(history: History, begin: Event, end: Event, worker: str | None) -> Sequence[Event]:
    """Of each worker that lived while the command was under way, how it was ready."""
    found = []
    for ready in history.of("ready"):
        gone = view.gone_after(history, ready.source, ready.t)
        alive = ready.t < begin.t and (gone is None or view.ended_at(gone) > end.t)
        if alive and worker in (None, ready.name):
            found.append(ready)
    return found
