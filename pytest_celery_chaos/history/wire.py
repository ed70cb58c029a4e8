"""What a proxy on the wire tells of a connection: the roles of commands, and the points that it can hold.

Imported by the proxy's own process too, which must start fast: it stands on nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

#: A role, and the phase of its event.
WireEvent: TypeAlias = tuple[str, Literal["invoke", "ok"]]

#: Every role, and what a unit of it is (a unit is one command, or all of a MULTI … EXEC).
ROLES: Final[Mapping[str, str]] = {
    "publish": "LPUSH or RPUSH to a queue: a message is sent",
    "pop": "BRPOP of queues: a worker waits for a message",
    "get": "RPOP of a queue: basic get",
    "record": "ZADD `unacked_index`, HSET `unacked`: a popped message is written down",
    "restore": "after WATCH `unacked`: taken out of `unacked` and pushed to its queue again",
    "restore_read": "WATCH and HGET of `unacked`, before a restore",
    "ack": "ZREM `unacked_index`, HDEL `unacked`; `reject(requeue=False)` is the same bytes",
    "sweep": "SET `unacked_mutex`: who has it restores what is overdue",
    "sweep_scan": "ZRANGE or ZREVRANGEBYSCORE of `unacked_index`: what is overdue",
    "sweep_end": "the script that gives `unacked_mutex` back",
    "bind": "SADD to a binding table",
    "unbind": "SREM from one",
    "lookup": "SMEMBERS of one: which queues a message goes to",
    "declare": "LLEN, EXISTS or PEXPIRE of a queue",
    "delete_queue": "DEL of a queue; with LLEN before it: purge",
    "store": "a result is written, and published to who listens",
    "read_result": "GET or MGET of results",
    "listen_result": "(UN)SUBSCRIBE to results",
    "forget": "DEL of a result or a saved group",
    "store_group": "a group is saved",
    "read_group": "a saved group is read",
    "chord_size": "a chord's size is written (or a part that replaces itself adds to it)",
    "chord_part": "a part of a chord's header is handed in",
    "chord_join": "the results of its parts are read",
    "chord_claim": "5.7: who publishes the body keeps its claim",
    "chord_finish": "what was kept of the parts is deleted",
    "control": "PUBLISH of a remote-control command",
    "reply": "LPUSH of a reply to one",
    "wait_reply": "BRPOP of replies",
    "heartbeat": "PUBLISH of a worker's heartbeat",
    "event": "PUBLISH of another event",
    "fanout": "PUBLISH to another fanout exchange",
    "listen": "(P)SUBSCRIBE to remote control, events and other fanout exchanges, and the opposite",
    "statedb": "celery-redis-statedb",
    "script": "SCRIPT LOAD",
    "handshake": "PING HELLO AUTH CLIENT SELECT INFO ECHO QUIT RESET READONLY …",
    "harness": "keys of this harness's own",
    "other": "nobody's that is known: an application's own use of the server",
}

#: Points of the protocol as a proxy sees them: (role, phase) of the event before which, and after which, it holds.
#: *Before* is when the request has come and the server has not seen it; *after* when the server has answered and the
#: reply has not been passed on. `sweep` is what happens while the mutex is held, as in the recorder.
WIRE_POINTS: Final[Mapping[str, tuple[WireEvent, WireEvent]]] = {
    **{role: ((role, "invoke"), (role, "ok")) for role in ROLES if role not in ("other", "harness")},
    "sweep": (("sweep_scan", "invoke"), ("sweep_end", "invoke")),
    "reject": (("ack", "invoke"), ("ack", "ok")),
}
