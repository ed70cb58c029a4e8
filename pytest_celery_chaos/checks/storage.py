"""What is left on the servers: by the harness's own looks at them, at the start, at the end and at ``snapshot`` steps.

A look is a ``storage`` event: how many keys of each role there are, which of them never expire, and the bindings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pytest_celery_chaos.checks import view
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.history.verdict import Finding
from pytest_celery_chaos.values import StepRef

#: Keys that Celery and kombu give an expiry to, as far as they are not told otherwise (`result_expires: null`).
_EXPIRING = ("result", "group", "chord", "reply")
#: Keys that are there for good reason as long as the application is: results are kept, messages wait (`clean_end` and
#: `lost` judge them), and each exchange is declared once (`bindings`).
_STAYING = frozenset(
    {"result", "queue", "unacked", "unacked_index", "binding", "binding_permanent", "binding_deadlines"}
)
#: Exchanges of remote control and of events: their queues come and go with each worker and each question.
_PASSING = frozenset({"celery.pidbox", "reply.celery.pidbox", "celeryev"})


def look_called(history: History, name: str) -> Event | None:
    """The last look of that name that every server answered: ``start``, ``end``, or a ``snapshot`` step's."""
    found = [e for e in history.of("storage") if e.attrs.get("name") == name and not e.attrs.get("unanswered")]
    return found[-1] if found else None


def no_look(history: History, name: str) -> Finding:
    """The finding where there was no such look."""
    silent = [e for e in history.of("storage") if e.attrs.get("name") == name]
    if silent:
        server, error = next(iter(silent[-1].attrs["unanswered"].items()))
        return view.inconclusive(f"server {server} did not answer the look called {name!r}: {error}", silent[-1])
    return view.inconclusive(f"there was no look called {name!r} at what is stored")


def stored(
    history: History,
    *,
    role: Literal["queue", "unacked", "reply", "result", "group", "chord", "binding", "statedb", "other"],
    max: int | None = None,
    min: int | None = None,
    bytes: int | None = None,
    at: StepRef | None = None,
) -> Finding:
    """So many keys of one role must be stored, and so many bytes by them; by default none.

    *seen*: how many keys; where the bytes are too many, how many bytes. Inconclusive where nobody looked.

    :param role: what the keys are to Celery: ``result``, ``reply`` (to a remote-control command), ``chord`` (what is
        kept of a chord's parts) …; ``other`` is what none of the run's applications has put there.
    :param max: at most so many keys.
    :param min: at least so many.
    :param bytes: at most so many, by MEMORY USAGE; beyond 200 keys of a role a sample stands for all.
    :param at: the name of a ``snapshot`` step; by default the end of the run.
    """
    if max is None and min is None and bytes is None:
        max = 0
    look = look_called(history, at or "end")
    if look is None:
        return no_look(history, at or "end")
    keys = sum(each["keys"] for each in _roles(look, role))
    size = sum(each["bytes"] for each in _roles(look, role))
    told = f"{view.plural(keys, 'key')} of role {role}, {size} bytes, at {view.at(history, look)}"
    names = [name for each in _roles(look, role) for name in each.get("names", ())]
    told += f": {view.some(names)}" if names else ""
    if max is not None and keys > max:
        return Finding("violated", f"{told}; at most {max} wanted", keys, (look,))
    if min is not None and keys < min:
        return Finding("violated", f"{told}; at least {min} wanted", keys, (look,))
    if bytes is not None and size > bytes:
        return Finding("violated", f"{told}; at most {bytes} bytes wanted", size, (look,))
    return Finding("holds", told, keys)


def leaked_keys(history: History, *, max: int = 0, since: StepRef | None = None) -> Finding:
    """No key that never expires may be left that was not there before.

    Results are meant to stay, messages and bindings are judged by ``lost``, ``clean_end`` and ``bindings``: they do not
    count. What is left are replies that nobody read, parts of chords, and keys that nobody knows.

    *seen*: how many more there are. Inconclusive where nobody looked at the start or at the end.

    :param max: so many more are allowed.
    :param since: the name of a ``snapshot`` step to compare with; by default the start of the run.
    """
    before, after = look_called(history, since or "start"), look_called(history, "end")
    if before is None or after is None:
        return no_look(history, "end" if before else since or "start")
    more: list[str] = []
    count = 0
    for place, roles in _spaces(after):
        known = dict(_spaces(before)).get(place, {})
        for role, each in roles.items():
            grown = each["no_ttl"] - known.get(role, {}).get("no_ttl", 0)
            if role not in _STAYING and grown > 0:
                count += grown
                names = sorted(set(each.get("names", ())) - set(known.get(role, {}).get("names", ())))
                more.append(f"{grown} of role {role} in {place}" + (f" ({view.some(names)})" if names else ""))
    told = f"since {view.at(history, before)}: {'; '.join(more) or 'none'}"
    if count > max:
        return Finding("violated", f"{view.plural(count, 'key')} that never expire more {told}", count, (before, after))
    return Finding("holds", f"keys that never expire and were not there {told}", count)


def foreign_keys(history: History) -> Finding:
    """No key may be there that none of the run's applications has put there, or that is not where it belongs.

    Foreign is a key outside the ``global_keyprefix``, one of no known role, and a result where messages are kept.

    *seen*: how many there were, at the worst look. Inconclusive where nobody looked.
    """
    looks = [e for e in history.of("storage") if not e.attrs.get("unanswered")]
    if not looks:
        return no_look(history, "end")
    worst = sorted(looks, key=lambda look: _count(look, "other"))[-1]
    if count := _count(worst, "other"):
        names = [name for each in _roles(worst, "other") for name in each.get("names", ())]
        why = f"{view.plural(count, 'key')} of nobody here at {view.at(history, worst)}: {view.some(names)}"
        return Finding("violated", why, count, (worst,))
    keys = sum(each["keys"] for _, roles in _spaces(worst) for each in roles.values())
    return Finding("holds", f"all {view.plural(keys, 'key')} at {view.at(history, worst)} have a known role", 0)


def ttl(history: History, *, role: Literal["result", "group", "chord", "reply"] | None = None) -> Finding:
    """Every key that is to expire must have an expiry: results, saved groups, chords' parts, remote-control replies.

    *seen*: how many have none, at the worst look. Inconclusive where there was no such key at any look.

    :param role: only keys of this role.
    """
    roles = (role,) if role else _EXPIRING
    looks = [e for e in history.of("storage") if not e.attrs.get("unanswered")]
    seen, there = 0, 0
    worst: Event | None = None
    for look in looks:
        theirs = [each for one in roles for each in _roles(look, one)]
        there += sum(each["keys"] for each in theirs)
        without = sum(each["no_ttl"] for each in theirs)
        if without > seen:
            seen, worst = without, look
    if worst is not None:
        names = [name for space in worst.attrs["spaces"] for one in roles for name in space["no_ttl"].get(one, ())]
        why = f"{view.plural(seen, 'key')} without expiry at {view.at(history, worst)}: {view.some(names)}"
        return Finding("violated", why, seen, (worst,))
    if not there:
        return view.inconclusive(f"no key of role {' or '.join(roles)} was there at any look")
    told = f"every key of role {', '.join(roles)} had an expiry at {view.plural(len(looks), 'look')}"
    return Finding("holds", told, 0)


def bindings(history: History, *, exchange: str | None = None, since: StepRef | None = None) -> Finding:
    """Every binding of a queue to an exchange that was there before must be there in the end.

    A message to an exchange whose binding is gone goes nowhere, and nobody is told. Bindings of remote control and
    of events come and go, and count only where their exchange is named.

    *seen*: how many are gone. Inconclusive where there was none before, or nobody looked.

    :param exchange: only this exchange's.
    :param since: the name of a ``snapshot`` step to compare with; by default the start of the run.
    """
    before, after = look_called(history, since or "start"), look_called(history, "end")
    if before is None or after is None:
        return no_look(history, "end" if before else since or "start")
    were = {each for each in _bound(before) if (each[1] == exchange if exchange else each[1] not in _PASSING)}
    if not were:
        return view.inconclusive(f"no queue was bound to {exchange or 'any exchange'} at {view.at(history, before)}")
    if gone := sorted(were - set(_bound(after))):
        told = "; ".join(f"{name}: {member.rpartition('|')[2]}" for _, name, member in gone[:3])
        why = f"{view.plural(len(gone), 'binding')} of {len(were)} gone at {view.at(history, after)}: {told}"
        return Finding("violated", why, len(gone), (before, after))
    return Finding("holds", f"{view.plural(len(were), 'binding')} as at {view.at(history, before)}", 0)


def unacked_index(history: History) -> Finding:
    """``unacked`` and ``unacked_index`` must name the same deliveries whenever they are looked at.

    A delivery that only one of them names is never restored, or its acknowledgement leaves something behind.

    *seen*: how many deliveries only one of them names, at the worst look. Inconclusive where nobody looked.
    """
    looks = [keys for keys in map(view.keys_of, history.of("snapshot")) if keys]
    if not looks:
        return view.inconclusive("the keys were never looked at")
    differ = [(len(set(keys.unacked) ^ set(keys.index)), keys) for keys in looks]
    seen, worst = sorted(differ, key=lambda each: each[0])[-1]
    if seen:
        tags = sorted(set(worst.unacked) ^ set(worst.index))
        why = f"{view.plural(seen, 'delivery tag')} in one alone at {view.at(history, worst.event)}: {view.some(tags)}"
        return Finding("violated", why, seen, (worst.event,))
    most = sorted(len(keys.unacked) for keys in looks)[-1]
    return Finding("holds", f"they agreed at {view.plural(len(looks), 'look')}, on {most} at most", 0)


def _spaces(look: Event) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    for space in look.attrs.get("spaces") or ():
        yield f"{space['server']}/{space['db']}", space["roles"]


def _roles(look: Event, role: str) -> Sequence[Mapping[str, Any]]:
    return [roles[role] for _, roles in _spaces(look) if role in roles]


def _count(look: Event, role: str) -> int:
    return sum(int(each["keys"]) for each in _roles(look, role))


def _bound(look: Event) -> list[tuple[str, str, str]]:
    """Database, exchange and member of each binding."""
    return [
        (f"{space['server']}/{space['db']}", exchange, member)
        for space in look.attrs.get("spaces") or ()
        for exchange, members in space["bindings"].items()
        for member in members
    ]
