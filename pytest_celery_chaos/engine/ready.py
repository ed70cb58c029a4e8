"""When a process that was started can do its work, seen from what it records and by plain Redis reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.clients.beat import Beat
from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.errors import NoAnswer, OverlayIneffective
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.system.wait import until
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.recorded import Recorded

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.brokers.keyspace import Keyspace

#: Seconds that a process has to become ready.
START_TIMEOUT = 30.0
#: What a recorder says that could not get in everywhere: its silence about something would prove nothing.
_BLIND = ("hook_missing", "hook_failed")


class Readiness:
    """Looks at the processes of one run.

    :param redis: the harness's connection to a server's database.
    :param ends: what both ends of a connection through a link are called (see :meth:`LinkProxy.ends`).
    :param spaces: of each process (``worker:a``) where its application keeps messages and results.
    :param port: that of a server.
    """

    def __init__(
        self,
        live: Live,
        redis: Callable[[str, int], Redis],
        spaces: Mapping[str, Keyspace],
        ends: Callable[[], Mapping[tuple[int, int], str]],
        *,
        port: Callable[[str], int],
    ) -> None:
        self._live, self._redis, self._spaces, self._ends, self._port = live, redis, spaces, ends, port

    def worker(self, worker: Worker, all_of_them: Iterable[Worker]) -> Event:
        """Wait until the worker says ready, hears both messages and commands, and has the settings asked for.

        :returns: what it reported when it was ready.
        """
        pid, others = worker.pid, list(all_of_them)
        ready = self._said(worker, "ready", pid)
        until(
            lambda: self._event(worker, "consuming", pid) and self._listens(worker, others),
            what=f"worker {worker.name} to wait for messages (BRPOP) and commands (PSUBSCRIBE)",
            timeout=START_TIMEOUT,
            last=lambda: worker.log_tail(5),
        )
        return ready

    def beat(self, beat: Beat) -> None:
        """Wait for the beat's first tick; its schedule must have every entry that the scenario gives it."""
        ready = self._said(beat, "ticking", beat.pid)
        missing = sorted(set(beat.spec.schedule) - set(ready.attrs.get("entries") or ()))
        if missing:
            raise OverlayIneffective(
                f"not in the schedule: {', '.join(missing)}",
                where=f"beat {beat.name!r}",
                hint="the scheduler does not take its entries from beat_schedule; give it there what it is to publish",
            )

    def busy(self, workers: Iterable[Worker]) -> Sequence[str]:
        """Names of living workers that do not wait in BRPOP at this moment.

        A worker that waits there has handed on everything that it was given before: there is no other way to know
        that no message lies between the server's reply to BRPOP and the worker's first word about it.

        :raises NoAnswer: a server does not answer now.
        """
        living = [worker for worker in workers if worker.alive]
        pending, ends = self._pending()
        addresses = {worker.name: self._consumers(worker, ends) for worker in living}
        # Over a unix socket connections have no address to tell them apart (`/path:0`, Valkey 9 `[/path:0]:0`).
        unnamed = [name for name, each in addresses.items() if None in each]
        if sum(address.startswith(("/", "[/")) for address in pending) >= len(unnamed):
            unnamed = []
        return [name for name, each in addresses.items() if name in unnamed or not each & {None, *pending}]

    def _said(self, process: Recorded, kind: str, pid: int) -> Event:
        """The process's event of that *kind*, with all settings in force that were asked for."""
        ready = until(
            lambda: self._event(process, kind, pid),
            what=f"{process.role} {process.name} to be ready",
            timeout=START_TIMEOUT,
            last=lambda: process.log_tail(5),
        )
        ineffective = sorted(name for name, held in ready.attrs.get("overlay", {}).items() if not held)
        if ineffective:
            raise OverlayIneffective(
                f"not in force: {', '.join(ineffective)}",
                where=f"{process.role} {process.name!r}",
                hint="the application sets it where nothing can be laid over it; change it there",
            )
        return ready

    def _event(self, process: Recorded, kind: str, pid: int) -> Event | None:
        if not process.alive:
            raise process.failed_to_start(f"the {process.role} ended before it was ready")

        def its_own(event: Event) -> bool:
            return event.source == process.source and event.pid == pid

        for blind in _BLIND:
            if (broken := self._live.find(its_own, kind=blind)) is not None:
                raise process.failed_to_start(f"the recorder cannot see everything: {blind} {dict(broken.attrs)}")
        return self._live.find(its_own, kind=kind)

    def _consumers(self, worker: Worker, ends: Mapping[tuple[int, int], str]) -> set[str | None]:
        """The connections on which the worker's process has sent BRPOP; None for one over a unix socket."""
        pid = worker.child.pid if worker.child else 0
        consuming = [event for event in self._live.of("consuming") if (event.source, event.pid) == (worker.source, pid)]
        found = {(event.attrs.get("address"), event.attrs.get("peer")) for event in consuming}
        return {address and _named(address, _port(peer), ends) for address, peer in found}

    def _listens(self, worker: Worker, workers: Iterable[Worker]) -> bool:
        """Whether it waits for messages and hears commands; not known, so False, while a server does not answer."""
        try:
            # Where many messages wait, one is given at once, and BRPOP is never seen pending.
            waits = self._event(worker, "popped", worker.pid) is not None or self._waits(worker)
            return waits and self._commands_heard(worker, workers)
        except NoAnswer:
            return False

    def _waits(self, worker: Worker) -> bool:
        pending, ends = self._pending()
        addresses = self._consumers(worker, ends)
        return bool(pending) if addresses == {None} else bool(addresses & set(pending))

    def _pending(self) -> tuple[list[str], Mapping[tuple[int, int], str]]:
        """The connections, of whatever server and database, that wait in BRPOP; and the ends of links by which they are
        called, looked up once for all that is compared with them."""
        from pytest_celery_chaos.brokers.keys import pending_brpop

        servers = dict.fromkeys(space.broker for space in self._spaces.values())
        with answering():
            pending = [(address, name) for name in servers for address in pending_brpop(self._redis(name, 0))]
        ends = self._ends()
        return [_named(address, self._port(name), ends) for address, name in pending], ends

    def _commands_heard(self, worker: Worker, workers: Iterable[Worker]) -> bool:
        """Whether as many connections are subscribed as there are living workers with remote control on its broker."""
        from pytest_celery_chaos.brokers.keys import subscribers

        mine = self._spaces[worker.source]
        living = {(each.source, each.pid) for each in workers if each.alive}
        wanted = [
            event
            for event in self._live.of("ready")
            if (event.source, event.pid) in living
            and self._spaces[event.source].messages[:2] == mine.messages[:2]
            and event.attrs.get("settings", {}).get("worker_enable_remote_control", True)
        ]
        with answering():
            return subscribers(self._redis(mine.broker, 0), mine.db) >= len(wanted)


def _named(address: str, to: int | None, ends: Mapping[tuple[int, int], str]) -> str:
    """What a connection is called on both sides of a link; one that goes through none, by both its ports.

    :param address: its own, ``host:port``, or the path of a unix socket.
    :param to: the port that it leads to.
    """
    own = _port(address)
    return address if own is None or to is None else ends.get((own, to), f"{address} to {to}")


def _port(address: str | None) -> int | None:
    port = (address or "").rpartition(":")[2]
    return int(port) if port.isdigit() else None
