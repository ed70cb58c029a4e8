"""Where an application keeps its messages and its results: a server, a database and a prefix for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.keys import results, snapshot

if TYPE_CHECKING:
    from redis import Redis


@dataclass(frozen=True)
class Keyspace:
    """The keys of one application.

    :param app: the application's name in the scenario.
    :param broker: name of the server that holds its messages, in database *db*.
    :param prefix: the broker's ``global_keyprefix``.
    :param backend: name of the server that holds its results, in database *result_db*.
    :param result_prefix: the result backend's ``global_keyprefix``, as it is set (Celery adds a ``_``).
    """

    app: str
    broker: str = "main"
    db: int = 0
    prefix: str = ""
    backend: str = "main"
    result_db: int = 1
    result_prefix: str = ""

    @property
    def messages(self) -> tuple[str, int, str]:
        """Where its messages are: applications with the same share their queues, and restore each other's."""
        return self.broker, self.db, self.prefix

    @property
    def results(self) -> tuple[str, int, str]:
        """Where its results are."""
        return self.backend, self.result_db, self.result_prefix


def look(
    spaces: Iterable[Keyspace],
    connect: Callable[[str, int], Redis],
    queues: Mapping[tuple[str, int, str], Iterable[str]],
    *,
    with_results: bool = True,
) -> dict[str, Any]:
    """What lies in several keyspaces now, as one snapshot; each place is looked at once, however many share it.

    The queues of the first keyspace bear their own names; those of another place are called ``APP:QUEUE``.

    :param connect: the harness's connection to a server's database.
    :param queues: the names of the queues of each :attr:`Keyspace.messages`.
    """
    found: dict[str, Any] = {"queues": {}, "unacked": {}, "index": {}, "mutex": False, "bindings": {}, "results": {}}
    messages: set[tuple[str, int, str]] = set()
    read: set[tuple[str, int, str]] = set()
    for space in spaces:
        if space.messages not in messages:
            named = (lambda name, app=space.app: f"{app}:{name}") if messages else str
            messages.add(space.messages)
            part = snapshot(connect(space.broker, space.db), None, queues.get(space.messages, ()), prefix=space.prefix)
            for key in ("queues", "bindings"):
                found[key] |= {named(name): value for name, value in part[key].items()}
            found["unacked"] |= part["unacked"]
            found["index"] |= part["index"]
            found["mutex"] = found["mutex"] or part["mutex"]
            if "damaged" in part:
                found["damaged"] = [*found.get("damaged", ()), *part["damaged"]]
        if with_results and space.results not in read:
            read.add(space.results)
            found["results"] |= results(connect(space.backend, space.result_db), prefix=space.result_prefix)
    return found
