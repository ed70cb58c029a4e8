"""Names: what a file gives them to, and whether each one that it uses is among them.

Gathered from the tree and not from the model, so that a name is found also where something else beside it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from pytest_celery_chaos.brokers.spec import BrokerSpec, Topology
from pytest_celery_chaos.engine.links import ENDS, TEST, name_of
from pytest_celery_chaos.history.labels import of_part
from pytest_celery_chaos.scenario import fields, tree
from pytest_celery_chaos.scenario.decode import Use
from pytest_celery_chaos.scenario.problems import Problems, nearest
from pytest_celery_chaos.scenario.tree import Given, Node, Place, Scalar
from pytest_celery_chaos.scenario.vocabulary import Vocabulary
from pytest_celery_chaos.workloads import PUBLISHING

_DIGITS: Final = tuple("0123456789")
#: By verb, how the names of the parts begin of what it publishes, and how to write them.
_PARTS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "send": ((), "its name alone stands for all its messages"),
    "group": (_DIGITS, "write NAME.0 for the first of its tasks"),
    "map": (_DIGITS, "write NAME.0 for the first of its messages"),
    "chord": (("header", "body"), "write NAME.header, NAME.header.0 or NAME.body"),
    "chain": (("link",), "write NAME.link0 for the first of its tasks"),
}
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


@dataclass(frozen=True)
class _Named:
    """A step as far as its name goes."""

    verb: str
    name: str | None
    place: Place


def check_names(root: tree.Mapping, uses: Sequence[Use], vocabulary: Vocabulary, problems: Problems) -> None:
    """Tell every name that is given twice, and every one that is used and names nothing."""
    steps, scheduled = list(_steps(root, vocabulary)), dict(_scheduled(root))
    _once(steps, problems)
    for step in steps:
        if step.name in scheduled:
            what = f"a step and an entry of a beat's schedule are called {step.name!r}"
            problems.add(step.place, what, "rename one: each stands for the ids that it publishes")
    named = [step.name for step in steps if step.name]
    faults = [step.name for step in steps if step.name and step.verb in vocabulary.faults]
    labels = {step.name: step.verb for step in steps if step.name and step.verb in PUBLISHING}
    labels |= dict.fromkeys(scheduled, "send")
    tasks = [*filter(None, scheduled.values()), *(use.name for use in uses if use.kind == "task_name")]
    known: dict[str, tuple[str, Iterable[str]]] = {
        "worker": ("no worker is called", _keys(root.items.get("workers"))),
        "client": ("no client is called", list(_keys(root.items.get("clients"))) or ["main"]),
        "beat": ("no beat is called", _keys(root.items.get("beats"))),
        "app": ("no app is called", {"main", *_keys(root.items.get("apps"))}),
        "broker": ("no broker is called", _brokers(root)),
        "link": ("no link is called", _links(root)),
        "step": ("no step is called", named),
        "fault": ("no fault is called", [*faults, "all"]),
        "task": ("no step that publishes and no task is called", {*labels, *tasks, *vocabulary.tasks}),
        "task_name": ("no built-in task is called", vocabulary.tasks),
    }
    builtin = all(_text(each) in (None, "builtin") for each in _applications(root))
    for use in uses:
        what, names = known[use.kind]
        if use.kind == "task" and (verb := labels.get(use.name.partition(".")[0])) and use.name not in labels:
            label, _, part = use.name.partition(".")
            beginnings, hint = _PARTS[verb]
            if of_part(use.name) is None or not part.startswith(beginnings):
                problems.add(use.place, f"{verb} {label!r} has no part {part!r}", hint)
            continue
        if use.name in names or (use.kind == "task" and ("." in use.name or _UUID.fullmatch(use.name))):
            continue
        if use.kind == "task_name" and ("." in use.name or not builtin):
            continue  # of the application: known only once it runs
        problems.add(use.place, f"{what} {use.name!r}", nearest(use.name, names))


def _brokers(root: tree.Mapping) -> list[str]:
    """The brokers by name, and the servers of those that are several."""
    found: list[str] = []
    for name, key in (("main", "broker"), ("backend", "backend")):
        given = root.items.get(key)
        if key == "broker" or not (given is None or tree.is_null(given)):
            said, replicas = _text(_child(given, "topology")), _text(_child(given, "replicas")) or ""
            topology: Any = said if said in get_args(Topology) else BrokerSpec.topology
            count = int(replicas) if replicas.isdecimal() else BrokerSpec.replicas
            spec = BrokerSpec(name, topology=topology, replicas=count)
            found += dict.fromkeys([name, *spec.members, *spec.sentinels])
    return found


def _links(root: tree.Mapping) -> list[str]:
    """The links that there can be: each process has one to its broker and one to its result backend."""
    clients = list(_keys(root.items.get("clients"))) or ["main"]
    processes = [*_keys(root.items.get("workers")), *clients, *_keys(root.items.get("beats")), TEST]
    return [name_of(process, end) for process in processes for end in ENDS]


def _scheduled(root: tree.Mapping) -> Iterator[tuple[str, str | None]]:
    """The entries of the beats' schedules, and their tasks."""
    beats = root.items.get("beats")
    for beat in _keys(beats):
        schedule = _child(_child(beats, beat), "schedule")
        for entry in _keys(schedule):
            yield entry, _text(_child(_child(schedule, entry), "task"))


def _applications(root: tree.Mapping) -> Iterator[Node | None]:
    yield root.items.get("app")
    apps = root.items.get("apps")
    for name in _keys(apps):
        yield _child(_child(apps, name), "app")


def _once(steps: Sequence[_Named], problems: Problems) -> None:
    seen: dict[str, Place] = {}
    for step in steps:
        if step.name == "all":
            problems.add(step.place, "no step can be called 'all'", "rename it: `heal: all` means every fault")
        elif step.name in seen:
            what = f"two steps are called {step.name!r}, the first in line {seen[step.name].line}"
            problems.add(step.place, what, "rename one")
        elif step.name:
            seen[step.name] = step.place


def _steps(root: tree.Mapping, vocabulary: Vocabulary) -> Iterator[_Named]:
    listed = root.items.get("steps")
    for entry in listed.items if isinstance(listed, tree.Sequence) else ():
        for key in entry.items if isinstance(entry, tree.Mapping) else ():
            verb = vocabulary.verb(key)
            if verb is None or not isinstance(entry, tree.Mapping):
                continue
            body = entry.items[key]
            inside = None if "name" in fields.of_verb(verb).items else _child(body, "name")
            given = entry.items.get("name") or inside
            yield _Named(key, _text(given), given.place if given else entry.place)


def _child(node: Node | None, key: str) -> Node | None:
    return node.items.get(key) if isinstance(node, tree.Mapping) else None


def _keys(node: Node | None) -> Iterable[str]:
    return node.items.keys() if isinstance(node, tree.Mapping) else ()


def _text(node: Node | None) -> str | None:
    if isinstance(node, Given):
        return node.value if isinstance(node.value, str) else None
    return node.text or None if isinstance(node, Scalar) else None
