"""How the harness looks at a run's servers: by plain reads, patiently where a fault keeps a server from answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.keys import lives
from pytest_celery_chaos.brokers.keyspace import look as look_at
from pytest_celery_chaos.engine.apps import MAIN, keyspace_of
from pytest_celery_chaos.errors import NoAnswer, WaitExpired

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.environment import Environment
    from pytest_celery_chaos.engine.live import Live
    from pytest_celery_chaos.engine.plan import Plan

#: Seconds that a server may take to answer the harness, while a fault keeps it from answering.
ANSWERS_WITHIN = 15.0
#: Seconds after which a sweep's mutex is no living worker's any more.
_SWEEP_ENDS = 2.0


class Eyes:
    """The harness's view of the keys of one run.

    :param live: names the queues, and gets what was seen as events.
    """

    def __init__(self, plan: Plan, environment: Environment, live: Live) -> None:
        self._environment, self._live = environment, live
        self._main = keyspace_of(plan, MAIN, {})
        self._queues = {each.messages: {"celery", *plan.queues} for each in (self._main, *environment.keyspaces())}
        self._queues_read = 0

    def look(self, name: str | None = None) -> dict[str, Any]:
        """What lies in the broker and the backend now, by plain reads; also an event of the history.

        A server that does not answer (frozen, loading) is waited for.

        :raises WaitExpired: it has not answered for :data:`ANSWERS_WITHIN` seconds.
        """
        return self._note(name, self._patiently())

    def last_look(self) -> dict[str, Any]:
        """The look at the end. A sweep that happens to be under way holds its mutex for milliseconds: not in it.

        The mutex of a killed sweeper stays for 300 s; it is seen as what it is, something left behind.

        :raises WaitExpired: the server does not answer.
        """
        from pytest_celery_chaos.system.wait import until

        found: dict[str, Any] = {}

        def without_mutex() -> bool:
            found.update(self._patiently())
            return not found["mutex"]

        try:
            until(without_mutex, what="the sweep under way to end", timeout=_SWEEP_ENDS)
        except WaitExpired:
            if not found:
                raise
        return self._note("end", found)

    def _patiently(self) -> dict[str, Any]:
        """The keys, as soon as the server answers."""
        from pytest_celery_chaos.system.wait import until

        refused = "nothing"

        def found() -> dict[str, Any] | None:
            nonlocal refused
            try:
                return self.keys(results=True)
            except NoAnswer as error:
                refused = error.what
                return None

        return until(found, what="an answer to the harness's reads", timeout=ANSWERS_WITHIN, last=lambda: refused)

    def _note(self, name: str | None, found: dict[str, Any]) -> dict[str, Any]:
        self._live.emit("snapshot", name=name, **found)
        return found

    def keys(self, *, results: bool = False) -> dict[str, Any]:
        """What lies in the broker now (and in the backend), without an event of the history.

        :raises NoAnswer: a server does not answer now.
        """
        with answering():
            found = look_at(
                self._environment.keyspaces(), self._environment.servers.redis, self.queues(), with_results=results
            )
            states = self._environment.states() if results else []
            kept = {key: left for each in states for key, left in lives(each).items()}
        return {**found, "states": kept} if states else found

    def queues(self) -> Mapping[tuple[str, int, str], Sequence[str]]:
        """By :attr:`Keyspace.messages`, every queue that a worker consumes from or a publish named."""
        position = self._queues_read
        for event in self._live.since(position):
            position += 1
            space = self._environment.spaces.get(event.source, self._main)
            named = self._queues.setdefault(space.messages, set())
            if event.kind == "ready":
                named.update(event.attrs.get("queues") or ())
            elif event.kind == "publish" and event.attrs.get("queue"):
                named.add(event.attrs["queue"])
        self._queues_read = position  # by one assignment: two threads may look at once
        return {place: sorted(names) for place, names in self._queues.items()}
