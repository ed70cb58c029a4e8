"""On what a run ran: versions, server and pool, as its processes reported them; and whether a hazard's `where` fits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from pytest_celery_chaos.history.log import History

_CLAUSE = re.compile(r"\s*(?P<name>[A-Za-z][\w-]*)?\s*(?P<specifier>(?:[<>=!~].*)?)$")


def matches(history: History, axes: Mapping[str, str], name: str, wanted: str) -> bool:
    """Whether some process of this run fits ``name: wanted``.

    :param name: ``celery``, ``kombu``, ``redis`` (the client), ``python``, ``pool``, ``server``, ``provider``
        (of brokers: ``container``), an axis, or ``dbm``, which keeps beat's file.
    :param wanted: a version specifier (``<5.7``, ``>=5.3,<5.5``), a name (``prefork``), or both (``redis<7``).
    """
    facts = list(_facts(history, name))
    if not facts and name in axes:
        facts = [_split(str(axes[name]))]
    return any(_fits(fact, str(wanted)) for fact in facts)


def _facts(history: History, name: str) -> Iterator[tuple[str, str]]:
    """Pairs of name and version that the run knows under *name*; either may be empty."""
    if name == "server":
        for event in history.of("online"):
            yield str(event.attrs.get("server", "")), str(event.attrs.get("version", ""))
        return
    if name == "provider":  # of brokers
        for event in history.of("online"):
            yield "container" if "image" in event.attrs else "local", ""
        return
    if name == "dbm":
        for event in history.of("ticking"):
            yield str(event.attrs.get("dbm", "")), ""
        return
    for event in (*history.of("ready"), *history.of("hello")):
        if name == "pool" and event.kind == "ready":
            yield str(event.attrs.get("pool", "")), ""
        elif (
            event.role == "worker" and isinstance(versions := event.attrs.get("versions"), Mapping) and name in versions
        ):
            yield "", str(versions[name])


def _split(axis: str) -> tuple[str, str]:
    """``valkey-9.1`` as name and version."""
    name, _, version = axis.partition("-")
    return name, version


def _fits(fact: tuple[str, str], wanted: str) -> bool:
    name, version = fact
    found = _CLAUSE.match(wanted)
    if found is None:  # a bare version: `kombu: "5.6.2"`
        return version == wanted.strip()
    if found["name"] and found["name"].lower() != name.lower():
        return False
    if not found["specifier"]:
        return bool(found["name"])
    try:
        return SpecifierSet(found["specifier"]).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False
