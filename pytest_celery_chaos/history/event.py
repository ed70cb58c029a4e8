"""One thing that happened, and the vocabulary of things that can happen.

An event is one line of NDJSON. Its time is CLOCK_MONOTONIC in nanoseconds, one clock for every process of the
machine, containers included. What has a beginning and an end (a publish, an acknowledgement, the write of a
result, a fault) is two events of one kind: phase ``invoke``, then ``ok``, ``fail`` or ``unknown`` (Jepsen's
third outcome: nobody can say whether it took effect).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from pytest_celery_chaos.history.wire import ROLES

Phase = Literal["invoke", "ok", "fail", "unknown"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, when, to which task, and who says so.

    :param t: CLOCK_MONOTONIC in nanoseconds.
    :param source: whom it is about: ``client:NAME``, ``worker:NAME``, ``beat:NAME``, ``broker:NAME``, ``link:NAME``,
        ``fault``, ``harness``.
    :param kind: one of :data:`KINDS`.
    :param phase: for what begins and ends; else None.
    :param task: the task's id (which is the message's id), where there is one.
    :param pid: the process that it happened in, as that process sees itself.
    :param n: the number of the event in the process that wrote it, from 0, without gaps.
    :param by: who wrote it down, where that is not the source (the harness sees a worker exit).
    :param attrs: what else is known; see :data:`KINDS`.
    """

    t: int
    source: str
    kind: str
    phase: Phase | None = None
    task: str | None = None
    pid: int = 0
    n: int = 0
    by: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def to_line(self) -> str:
        """The event as one line of NDJSON, without the line's end."""
        record: dict[str, Any] = {"t": self.t, "source": self.source, "kind": self.kind}
        for name in ("phase", "task", "by"):
            value = getattr(self, name)
            if value is not None:
                record[name] = value
        record["pid"], record["n"] = self.pid, self.n
        if self.attrs:
            record["attrs"] = dict(self.attrs)
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False, default=str)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Event:
        """The event of one parsed line. Raises KeyError or TypeError where the line is not an event."""
        return cls(
            t=record["t"],
            source=record["source"],
            kind=record["kind"],
            phase=record.get("phase"),
            task=record.get("task"),
            pid=record.get("pid", 0),
            n=record.get("n", 0),
            by=record.get("by"),
            attrs=record.get("attrs", _NOTHING),
        )

    @property
    def role(self) -> str:
        """``worker`` of ``worker:a``."""
        return self.source.partition(":")[0]

    @property
    def name(self) -> str:
        """``a`` of ``worker:a``."""
        return self.source.partition(":")[2]


#: Every kind of event: who writes it, its attributes, and when. `at:` of a scenario accepts each of them.
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # every recorded process
        "hello": "first line of each process: role, argv, ppid, versions, monotonic, realtime, boottime (ns)",
        "hook_missing": "the recorder found nothing to patch there: hook",
        "hook_failed": "the recorder could not patch: hook, error",
        "released": "a held process goes on: rules, how (go, eof, deadline), held (ns)",
        # publishing, in a client or in a worker
        "publish": "invoke/ok/fail/unknown: name, queue, eta, expires, retries; of a part of a group: group, index; a "
        "retry publishes its own id again",
        "send": "invoke/ok/fail, client: delay() or apply_async() as its caller sees it: name; error",
        "get": "invoke/ok/fail/unknown, client: timeout; state or error",
        "warned": "Celery's remote control has warned of something: category, text",
        "joined": "invoke/ok/fail/unknown, client: the results of a group were read: group, ids, count; got (digests, "
        "in the order given) or error",
        "control": "invoke/ok/fail, client: a remote-control command was sent: command, ids; replies (of each node)",
        # worker, main process
        "ready": "hostname, pool, queues, settings (in force), tasks (of each its options), revoked, versions",
        "consuming": "BRPOP for messages was sent for the first time on a connection: address, peer",
        "popped": "BRPOP has answered, `unacked` not yet written: name, tag, redelivered, retries",
        "received": "`unacked` and `unacked_index` written: name, tag, redelivered, retries, eta",
        "ack": "invoke (decided) / ok (ZREM and HDEL answered): tag",
        "reject": "invoke/ok: tag, requeue",
        "restore": "invoke/ok/fail: tag, reason (sweep, shutdown, reject); fail: somebody else had it",
        "sweep": "invoke (mutex held, nothing restored yet) / ok (all due restored, mutex still held)",
        "revoke": "invoke (command heard) / ok (known): ids, method (revoke …, mingle, hello), terminate",
        "revoked_loaded": "invoke/ok/fail, at start: revoked ids were read from a store (file, redis): store, key, ids",
        "revoked_saved": "invoke/ok/fail, at exit: the same, written",
        "revoked": "a received task was discarded: reason (revoked, expired, terminated)",
        "accepted": "the main process knows that a pool process has begun the task, and is ready to cancel it",
        "settled": "the main process is done with the request",
        "connection_lost": "error, before (true: while connecting)",
        "connection_dropped": "kombu gave up one that did not answer in time, to open it anew: type (normal for BRPOP, "
        "or pubsub)",
        "connection_back": "the consumer is connected again",
        "prefetch": "basic_qos: count",
        "signal": "a shutdown signal's handler was entered: signal, handler",
        "soft_wait": "invoke/ok: wait_for_soft_shutdown",
        "cancelled": "cancel_active_requests / cancel_all_unacked_requests was called",
        "shutdown": "invoke/ok: how (warm, cold)",
        "child_up": "a pool process is up: pid of it in `pid`",
        "child_down": "a pool process is gone: child, exitcode",
        # worker, where the task runs
        "started": "before the task's body: name, tag, redelivered, retries",
        "returned": "after the task's body: (nothing)",
        "raised": "the body raised: error (type)",
        "store": "invoke/ok/fail: state; the result is written; of a part of a group: group, index, digest of it",
        "chord_part": "invoke/ok/fail: a part of a chord's header is handed in: group, index, state, digest; the last "
        "one's `ok` comes after the publish of the body",
        "chord": "a chord's body is about to be published, by its last part: group; digests of what it is given, count",
        "succeeded": "the task's trace ended in SUCCESS",
        "failed": "it ended in FAILURE: error (type)",
        "retried": "it ended in RETRY: error (type), countdown",
        # beat
        "ticking": "the first tick begins: scheduler, dbm (of its file), entries, max_interval, settings, versions",
        "due": "an entry is due: entry, task, every (s), count (of its runs so far), ago (s since the last one)",
        "sync": "invoke/ok/fail: the schedule is written to its file",
        # seen on a link, by the proxy that stands in it
        **{
            f"wire_{role}": f"invoke (the request has come) / ok, fail (the server has answered) / unknown: {about}"
            for role, about in ROLES.items()
        },
        # seen from outside
        "offline": "a process has ended: code or signal, asked (a step or the harness ended it), ended (pid), reaped, "
        "oom (the kernel killed it at its container's memory limit)",
        "promoted": "Sentinels have made it the primary, and each tells clients so: instead_of, epoch",
        "demoted": "Sentinels have made a replica of a server that took itself for the primary: its connections are "
        "closed",
        "sentinel": "a Sentinel has said something (its pub/sub): said (`+sdown`, `+switch-master` …), of",
        "online": "a server answers PING: server, version, port, and of a container image",
        "run": "first event of the harness: id, scenario, variant, axes, spaces (by process, where there are several)",
        "step": "invoke/ok/fail: index, verb, name, args (invoke), error (fail)",
        "fault": "invoke/ok/fail: index, verb, name, args (invoke), error (fail); what it acted on (ok)",
        "heal": "invoke/ok/fail: index, verb, name of the fault",
        "armed": "rule, moment, verb, index",
        "held": "a process waits at an armed moment: rules, event (its kind), source_of (whose)",
        "missed": "a moment that was armed and never came: moment, verb, index",
        "label": "the ids of a send step: label, prefix, name, times",
        "snapshot": "plain Redis reads: name, queues, unacked, index, mutex, bindings, results, damaged (keys of a "
        "wrong type); states: key, seconds",
        "storage": "plain Redis reads at the start, the end and `snapshot` steps: name, spaces (of each database: keys "
        "by role, without expiry, bytes, bindings), clients (connections by process, database, kind), unanswered",
        "quiet": "ok / fail: seconds, last (what was still open)",
        "observed": "the time of `observe:` is over: seconds",
        "critical": "a worker's log has a line of level CRITICAL: line",
        "error": "the harness failed: error, where",
        "end": "last event: all processes have ended",
    }
)

#: Points of the protocol and the events on either side of them: a process held *before* a point has written the
#: first event and waits; one held *after* it has written the second and waits.
POINTS: Final[Mapping[str, tuple[tuple[str, Phase | None], tuple[str, Phase | None]]]] = MappingProxyType(
    {
        "publish": (("publish", "invoke"), ("publish", "ok")),
        "pop": (("pop", "invoke"), ("popped", None)),  # `pop` invoke is never written, only held at
        "record": (("popped", None), ("received", None)),
        "run": (("started", None), ("returned", None)),
        "store": (("store", "invoke"), ("store", "ok")),
        "ack": (("ack", "invoke"), ("ack", "ok")),
        "reject": (("reject", "invoke"), ("reject", "ok")),
        "restore": (("restore", "invoke"), ("restore", "ok")),
        "sweep": (("sweep", "invoke"), ("sweep", "ok")),
        "revoke": (("revoke", "invoke"), ("revoke", "ok")),
        "sync": (("sync", "invoke"), ("sync", "ok")),
        "load_state": (("revoked_loaded", "invoke"), ("revoked_loaded", "ok")),
        "save_state": (("revoked_saved", "invoke"), ("revoked_saved", "ok")),
        "chord_part": (("chord_part", "invoke"), ("chord_part", "ok")),
    }
)

#: Points that only a proxy on the wire can hold; the grammar knows them, a run without a proxy refuses them.
WIRE_POINTS: Final = frozenset({"control", "heartbeat", "bind", "declare", "read_result"})
