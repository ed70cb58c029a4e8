"""Tells histories in words, for the tests of checks: who did what to which task, and when.

Each sentence adds the events that a real run has, a millisecond apart; :meth:`Story.at` sets the clock (seconds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_celery_chaos.history.event import Event, Phase
from pytest_celery_chaos.history.log import Header, History

START = 1_000_000_000_000
VERSIONS = {"celery": "5.7.0", "kombu": "5.7.0", "redis": "8.1.0"}


class Story:
    """A run that begins with the harness, a client and a broker; workers are told of.

    :param spaces: of each process where its messages are, where several applications have places of their own.
    :param settings: in force in every worker; by default redelivery is due 2 s after a receipt, swept every second.
    """

    def __init__(self, *, spaces: Mapping[str, str] | None = None, **settings: Any) -> None:
        fast = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
        self.settings = {**fast, **settings}
        self.events: list[Event] = []
        self._now = START
        self._numbers: Counter[tuple[str, int]] = Counter()
        self._pids: dict[str, int] = {"harness": 1, "client:main": 2}
        self._pools: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._steps = 0
        self.event("harness", "hello", role="harness")
        self.event("harness", "run", id="r1", **({"spaces": spaces} if spaces else {}))
        self.event("client:main", "hello", role="client")
        self.event("broker:main", "online", by="harness", server="valkey", version="9.1.0")

    # -- the clock, and single events

    def at(self, seconds: float) -> Story:
        self._now = max(self._now, START + round(seconds * 1e9))
        return self

    def event(
        self,
        source: str,
        kind: str,
        phase: Phase | None = None,
        task: str | None = None,
        *,
        by: str | None = None,
        pid: int | None = None,
        **attrs: Any,
    ) -> Story:
        writer = by or source
        pid = pid if pid is not None else self._pids[writer]
        number = self._numbers[writer, pid]
        self._numbers[writer, pid] += 1
        self.events.append(Event(self._now, source, kind, phase, task, pid, number, by, attrs))
        self._now += 1_000_000
        return self

    def harness(self, kind: str, phase: Phase | None = None, task: str | None = None, **attrs: Any) -> Story:
        return self.event("harness", kind, phase, task, **attrs)

    # -- clients

    def send(self, *tasks: str, name: str = "add", outcome: Phase = "ok", queue: str = "celery") -> Story:
        for task in tasks:
            self._names[task] = name
            self.event("client:main", "publish", "invoke", task, name=name, queue=queue)
            self.event("client:main", "publish", outcome, task, name=name, queue=queue)
        return self

    def revoke(self, *tasks: str, heard_by: Sequence[str] = ()) -> Story:
        self.event("client:main", "control", "invoke", command="revoke", ids=list(tasks))
        self.event("client:main", "control", "ok", command="revoke", ids=list(tasks))
        for worker in heard_by:
            for phase in ("invoke", "ok"):
                self.event(f"worker:{worker}", "revoke", phase, ids=list(tasks), method="revoke")  # type: ignore[arg-type]
        return self

    # -- workers

    def worker(
        self,
        name: str,
        *,
        pool: str = "prefork",
        ready: bool = True,
        knows: Sequence[str] | None = None,
        in_all: int | None = None,
        hostname: str | None = None,
        **settings: Any,
    ) -> Story:
        """A worker begins, and is ready; *knows*, *in_all* and *hostname* as in :meth:`ready`."""
        self.begins(name, pool=pool)
        return self.ready(name, knows=knows, in_all=in_all, hostname=hostname, **settings) if ready else self

    def begins(self, name: str, *, pool: str = "prefork") -> Story:
        source = f"worker:{name}"
        self._pids[source] = 100 * (len(self._pids) + 1) + len(self.events)
        self._pools[source] = pool
        self.event(source, "hello", role="worker", versions=VERSIONS)
        if pool == "prefork":
            self.event(source, "hello", pid=self._pids[source] + 1, role="child", versions=VERSIONS)
        return self

    def ready(
        self,
        name: str,
        *,
        knows: Sequence[str] | None = None,
        in_all: int | None = None,
        hostname: str | None = None,
        **settings: Any,
    ) -> Story:
        """It is ready, knowing of these revokes (*in_all* so many); None: it does not say."""
        source = f"worker:{name}"
        options: dict[str, Any] = {"settings": {**self.settings, **settings}, "versions": VERSIONS}
        if knows is not None:
            options["revoked"] = {"count": in_all or len(knows), "ids": list(knows)}
        if hostname is not None:
            options["hostname"] = hostname
        return self.event(source, "ready", pool=self._pools[source], queues=["celery"], **options)

    def keeps(
        self, worker: str, kind: str, *, ids: Sequence[str] = (), error: str | None = None, store: str = "redis"
    ) -> Story:
        """A state store is read (``revoked_loaded``) or written (``revoked_saved``); with *error* that fails."""
        source = f"worker:{worker}"
        self.event(source, kind, "invoke", store=store)
        if error is not None:
            return self.event(source, kind, "fail", store=store, error=error)
        return self.event(source, kind, "ok", store=store, ids=list(ids))

    def child(self, worker: str) -> int:
        source = f"worker:{worker}"
        return self._pids[source] + (self._pools[source] == "prefork")

    def new_child(self, worker: str) -> int:
        source = f"worker:{worker}"
        pid = self._pids[source] + 50 + len(self.events)
        self.event(source, "hello", pid=pid, role="child", versions=VERSIONS)
        return pid

    def takes(self, worker: str, task: str, *, redelivered: bool = False, tag: str | None = None) -> Story:
        what = {"tag": tag or f"tag-{task}", "redelivered": redelivered, "name": self._names.get(task)}
        self.event(f"worker:{worker}", "popped", None, task, **what)
        return self.event(f"worker:{worker}", "received", None, task, **what)

    def starts(self, worker: str, task: str, *, pid: int | None = None, redelivered: bool = False) -> Story:
        pid = pid or self.child(worker)
        what = {"tag": f"tag-{task}", "redelivered": redelivered}
        return self.event(f"worker:{worker}", "started", None, task, pid=pid, **what)

    def returns(self, worker: str, task: str, *, pid: int | None = None) -> Story:
        return self.event(f"worker:{worker}", "returned", None, task, pid=pid or self.child(worker))

    def succeeds(self, worker: str, task: str, *, pid: int | None = None) -> Story:
        pid, source = pid or self.child(worker), f"worker:{worker}"
        self.returns(worker, task, pid=pid)
        self.event(source, "store", "invoke", task, pid=pid, state="SUCCESS")
        self.event(source, "store", "ok", task, pid=pid, state="SUCCESS")
        return self.event(source, "succeeded", None, task, pid=pid)

    def fails(self, worker: str, task: str, *, error: str = "ValueError") -> Story:
        source, pid = f"worker:{worker}", self.child(worker)
        self.event(source, "raised", None, task, pid=pid, error=error)
        return self.event(source, "failed", None, task, pid=pid, error=error)

    def acks(self, worker: str, task: str) -> Story:
        for phase in ("invoke", "ok"):
            self.event(f"worker:{worker}", "ack", phase, task, tag=f"tag-{task}")  # type: ignore[arg-type]
        return self

    def works(self, worker: str, task: str, *, redelivered: bool = False) -> Story:
        """Takes the task, runs it to SUCCESS and acknowledges it late."""
        self.takes(worker, task, redelivered=redelivered).starts(worker, task, redelivered=redelivered)
        return self.succeeds(worker, task).acks(worker, task)

    def restores(self, worker: str, task: str, reason: str = "sweep") -> Story:
        for phase in ("invoke", "ok"):
            what = {"tag": f"tag-{task}", "reason": reason}
            self.event(f"worker:{worker}", "restore", phase, task, **what)  # type: ignore[arg-type]
        return self

    def discards(self, worker: str, task: str, reason: str = "revoked") -> Story:
        return self.event(f"worker:{worker}", "revoked", None, task, reason=reason)

    def dies(
        self, worker: str, *, signal: str | None = "SIGKILL", code: int | None = None, asked: bool = True
    ) -> Story:
        source = f"worker:{worker}"
        ended = self._pids[source]
        return self.event(source, "offline", by="harness", code=code, signal=signal, asked=asked, ended=ended)

    # -- the harness

    def fault(self, verb: str, *, name: str | None = None, then: str = "", **args: Any) -> Story:
        """A fault begins; with ``then="ok"`` it is applied at once."""
        self._steps += 1
        what = {"verb": verb, "name": name, "index": self._steps}
        self.harness("fault", "invoke", args=args, **what)
        return self.harness("fault", "ok", **what) if then != "later" else self

    def kill(self, worker: str, *, name: str | None = None) -> Story:
        self.fault("kill", name=name, worker=worker)
        return self.dies(worker)

    def looks(
        self,
        queues: Mapping[str, Sequence[str]] | None = None,
        unacked: Sequence[str] = (),
        *,
        index: Sequence[str] | None = None,
        mutex: bool = False,
        results: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Story:
        """A look at the keys."""
        tags = {f"tag-{task}": task for task in unacked}
        scores = {f"tag-{task}": 1.0 for task in (unacked if index is None else index)}
        found = {"queues": {"celery": [], **(queues or {})}, "unacked": tags, "index": scores, "mutex": mutex}
        return self.harness("snapshot", name="end", **found, results=dict(results or {}), **more)

    def stores(
        self,
        name: str,
        roles: Mapping[str, int | tuple[int, int]] | None = None,
        *,
        results: Mapping[str, int | tuple[int, int]] | None = None,
        bindings: Mapping[str, Sequence[str]] | None = None,
        clients: Mapping[str, int] | None = None,
        to_backend: Mapping[str, int] | None = None,
        unanswered: Mapping[str, str] | None = None,
    ) -> Story:
        """A look at what is stored.

        :param roles: by role the keys in database 0, or the keys and how many of them never expire.
        :param results: the same of database 1, where results are.
        :param clients: by process, connections to database 0; *to_backend* to database 1.
        """
        spaces = []
        for db, found in enumerate((roles or {}, results or {})):
            told, lasting = {}, {}
            for role, counts in found.items():
                keys, forever = counts if isinstance(counts, tuple) else (counts, 0)
                names = [f"{role}-{number}" for number in range(keys)]
                told[role] = {"keys": keys, "no_ttl": forever, "bytes": 100 * keys, "names": names}
                lasting |= {role: names[:forever]} if forever else {}
            use = {"messages": not db, "results": bool(db), "bindings": {} if db else dict(bindings or {})}
            spaces.append({"server": "main", "db": db, "roles": told, "no_ttl": lasting, **use})
        rows = [
            {"server": "main", "process": process, "db": db, "kind": "normal", "count": count}
            for db, theirs in enumerate((clients or {}, to_backend or {}))
            for process, count in theirs.items()
        ]
        more = {"unanswered": dict(unanswered)} if unanswered else {}
        return self.harness("storage", name=name, spaces=spaces, clients=rows, **more)

    def ends(self, **keys: Any) -> Story:
        """The run falls quiet and is over; what is left at the broker is told by *keys*."""
        self.looks(**keys)
        self.harness("quiet", "ok")
        return self.harness("end")

    def history(self) -> History:
        return History(self.events, Header("r1", START, 0))


def clean() -> Story:
    """A run in which everything went well: one worker, two tasks, one harmless fault."""
    story = Story().worker("a").send("t1", "t2").fault("pause", worker="a")
    return story.works("a", "t1").works("a", "t2").at(1)
