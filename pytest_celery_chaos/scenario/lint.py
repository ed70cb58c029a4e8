"""What a file means, where its form is right: moments that can come, faults that have a victim, workers that run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_celery_chaos.brokers.config import check
from pytest_celery_chaos.brokers.external import refused, target
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario import tree
from pytest_celery_chaos.scenario.decode import Decoder
from pytest_celery_chaos.scenario.entries import StepEntry
from pytest_celery_chaos.scenario.model import Format
from pytest_celery_chaos.scenario.moments import check_moments
from pytest_celery_chaos.scenario.problems import Problems, nearest
from pytest_celery_chaos.scenario.targets import check_targets
from pytest_celery_chaos.scenario.tree import Place
from pytest_celery_chaos.workloads import canvas

_APP: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True)
class Meaning:
    """One variant of a file, and where what is wrong with it goes."""

    said: Format
    root: tree.Mapping
    problems: Problems
    decoder: Decoder

    @property
    def steps(self) -> Sequence[StepEntry]:
        return self.said.steps

    def place(self, *path: str) -> Place:
        """Where the value under these keys stands, or as much of it as there is."""
        node: tree.Node = self.root
        for key in path:
            if not isinstance(node, tree.Mapping) or key not in node.items:
                break
            node = node.items[key]
        return node.place

    def place_of_key(self, *path: str) -> Place:
        """Where the last of these keys itself stands."""
        node: tree.Node | None = self.root
        for key in path[:-1]:
            node = node.items.get(key) if isinstance(node, tree.Mapping) else None
        if isinstance(node, tree.Mapping) and path[-1] in node.places:
            return node.places[path[-1]]
        return self.place(*path)


def lint(said: Format, decoder: Decoder, root: tree.Mapping, variants: Sequence[str]) -> None:
    """Add to the decoder's problems what can be known to be wrong before anything is started."""
    meaning = Meaning(said, root, decoder.problems, decoder)
    _settings(meaning)
    _servers(meaning)
    _external(meaning)
    _named(meaning)
    _workers(meaning)
    check_targets(meaning.steps, said, decoder)
    _parts(meaning)
    check_moments(meaning.steps, said, decoder.problems)
    for entry in said.expect:
        for hazard, place in entry.hazards:
            for name in hazard.variant:
                if name not in variants:
                    decoder.problems.add(place, f"hazard: no variant is called {name!r}", nearest(name, variants))


def _settings(meaning: Meaning) -> None:
    said, add = meaning.said, meaning.problems.add
    if not said.scenario.strip():
        add(meaning.place("scenario"), "scenario: the title is empty", "say in one line what is shown")
    if said.app != "builtin" and not _APP.fullmatch(said.app):
        add(meaning.place("app"), f"app: {said.app!r} names no application", "write builtin, or proj.celery:app")
    if said.observe is not None and "quiet" in meaning.root.items:
        hint = "remove one: observe judges after a time, quiet waits for the end of all work"
        add(meaning.place("observe"), "observe and quiet exclude each other", hint)
    if not said.steps:
        add(meaning.place("steps"), "steps: nothing happens", "add a step: `- send: add`")


def _servers(meaning: Meaning) -> None:
    for key in ("broker", "backend"):
        given = getattr(meaning.said, key) or {}
        version = given.get("version")
        if version is not None and not _VERSION.fullmatch(version):
            what = f"{key}: {version!r} is no version"
            meaning.problems.add(meaning.place(key, "version"), what, 'write it or its beginning: "9.1"')
        if given.get("save") is not None and given.get("persistence") != "rdb":
            meaning.problems.add(meaning.place(key, "save"), f"{key}: save needs persistence: rdb", "add it")


def _external(meaning: Meaning) -> None:
    """What is said of a server that is only an address, or several, can be; what is done to an address is allowed."""
    specs = {}
    for name, key in (("main", "broker"), ("backend", "backend")):
        given: dict[str, Any] = dict(getattr(meaning.said, key) or {})
        if given.keys() & {"address", "allow", "topology"}:
            specs[name] = BrokerSpec(**{**given, "name": name})
            try:
                check(specs[name])
            except UsageError as error:
                meaning.problems.add(meaning.place(key), f"{key}: {error.what}", error.hint)
        if given.get("topology") == "sentinel" and meaning.said.links:
            what = f"link {meaning.said.links[0]!r} leads to servers that Sentinel watches over"
            hint = "Sentinel tells clients the servers' own addresses, past every link: kill, pause, or `failover`"
            meaning.problems.add(meaning.place("steps"), what, hint)
    for entry in meaning.steps:
        named = target(entry.step.verb, entry.step.args)
        if named in specs and (no := refused(specs[named], entry.step.verb)) is not None:
            meaning.problems.add(entry.place, *no)


def _named(meaning: Meaning) -> None:
    """Names are such that nothing else is taken for them; applications are written as Celery takes them."""
    said, add = meaning.said, meaning.problems.add
    nouns = {"workers": "a worker", "clients": "a client", "apps": "an app", "beats": "a beat"}
    listed: list[tuple[tuple[str, ...], str, Any]] = [((key,), noun, getattr(said, key)) for key, noun in nouns.items()]
    listed += [
        (("beats", beat, "schedule"), "an entry", given.get("schedule", {})) for beat, given in said.beats.items()
    ]
    for path, noun, names in listed:
        for name in names:
            if not _NAME.fullmatch(name):
                place = meaning.place_of_key(*path, name)
                add(place, f"{name!r} is no name for {noun}", "use letters, digits, - and _; begin with a letter")
    for name, given in said.apps.items():
        app = given.get("app")
        if app not in (None, "builtin") and not _APP.fullmatch(app):
            place = meaning.place("apps", name, "app")
            add(place, f"app: {app!r} names no application", "write builtin, or proj.celery:app")


def _workers(meaning: Meaning) -> None:
    said, add = meaning.said, meaning.problems.add
    started = {step.args.get("worker") for step in _of(meaning, "start", "restart")}
    for name, given in said.workers.items():
        if given.get("concurrency", 1) < 1:
            add(meaning.place("workers", name, "concurrency"), "concurrency: expected at least 1", "write 1 or more")
        for queue in given.get("queues", ()):
            if said.app == "builtin" and queue not in {*said.queues, "celery"} and "task_queues" not in said.config:
                hint = nearest(queue, ["celery", *said.queues])
                add(meaning.place("workers", name, "queues"), f"no queue is called {queue!r}", hint)
    if not any(given.get("start", True) or name in started for name, given in said.workers.items()):
        add(meaning.place("workers"), "no worker is ever started", "add one, or a step `- start: {worker: NAME}`")


def _parts(meaning: Meaning) -> None:
    """What groups, chords and chains are made of is said in one way."""
    for entry in meaning.steps:
        if entry.step.verb in canvas.ORDERS:
            try:
                canvas.ORDERS[entry.step.verb](**entry.step.args)
            except UsageError as error:
                meaning.problems.add(entry.place, f"{entry.step.verb}: {error.what}", error.hint)


def _of(meaning: Meaning, *verbs: str) -> list[Any]:
    return [entry.step for entry in meaning.steps if entry.step.verb in verbs]
