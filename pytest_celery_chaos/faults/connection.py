"""Faults of connections: ended or kept waiting by the server itself, which lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.brokers.server import OWN_USER
from pytest_celery_chaos.errors import FaultWithoutEffect, UsageError
from pytest_celery_chaos.values import BeatRef, BrokerRef, ClientRef, WorkerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run

#: Milliseconds of a CLIENT PAUSE: longer than any run, since a heal ends it.
_FOR_EVER: Final = 24 * 3600 * 1000


def client_kill(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    type: Literal["normal", "pubsub"] | None = None,
    blocked: bool = False,
    db: int | None = None,
    broker: BrokerRef = "main",
) -> None:
    """Have the server close connections (CLIENT KILL): of everybody, or of one process; all at one moment.

    The harness's own stay. Nothing heals it: whose connection it was connects again, or does not.

    :param worker: only connections of this worker, its pool processes among them.
    :param client: only this client's.
    :param beat: only this beat's.
    :param type: as in CLIENT KILL TYPE: ``pubsub`` are those that are subscribed (remote control, results), ``normal``
        all others.
    :param blocked: only those that wait in BRPOP at this moment: consumers.
    :param db: only those that have selected this database.
    :param broker: the server, by name.
    :raises UsageError: several processes are named, or the server is reached by its unix socket, where connections
        cannot be told apart.
    :raises FaultWithoutEffect: there is no such connection.
    """
    source = _source(run, worker=worker, client=client, beat=beat)
    with answering():
        redis: Any = run.redis(broker, 0)
        found = [each for each in redis.client_list() if _meant(each, type, blocked, db)]
        if source is not None:
            mine = _ports(run, broker, source)
            found = [each for each in found if each["addr"].rpartition(":")[2] in mine]
        pipe = redis.pipeline(transaction=True)
        for each in found:
            pipe.client_kill_filter(_id=each["id"])
        killed = sum(pipe.execute()) if found else 0
    if not killed:
        raise FaultWithoutEffect(
            f"{source or 'nobody'} has no such connection to broker {broker!r}",
            where=run.step.place,
            hint="wait until there is one: a client connects when it first publishes or waits for a result",
        )
    run.tell(connections=[{key: each[key] for key in ("addr", "db", "flags", "cmd")} for each in found[:20]])


def client_pause(run: Run, *, mode: Literal["all", "write"] = "all", broker: BrokerRef = "main") -> Heal:
    """Let the server answer nobody any more, or execute no writes (CLIENT PAUSE). Heals with CLIENT UNPAUSE.

    Connections stay and new ones are accepted, commands wait: to a client it is a server that is silent.

    :param mode: ``all`` stops every command, ``write`` those that may write, and PUBLISH.
    :param broker: the server, by name.
    """
    server = run.broker(broker)
    with answering():
        redis: Any = run.redis(broker, 0)
        # While all are paused, so is whoever would end it; only a connection that monitors is never made to wait.
        way_out = redis.connection_pool.make_connection()
        way_out.connect()
        _asked(way_out, "MONITOR")
        redis.execute_command("CLIENT", "PAUSE", _FOR_EVER, mode.upper())
    paused = server.child

    def heal() -> None:
        try:
            with answering():
                if server.alive and server.child is paused:  # else the pause has ended with the process
                    _asked(way_out, "CLIENT", "UNPAUSE")
        finally:
            way_out.disconnect()

    return heal


def _asked(connection: Any, *command: str) -> None:
    """Send a command and read on until it is answered, over what a monitoring connection is told beside."""
    connection.send_command(*command)
    while connection.read_response() != b"OK":
        pass


def _meant(connection: dict[str, str], type: str | None, blocked: bool, db: int | None) -> bool:
    if connection.get("user") == OWN_USER or connection.get("name") == OWN_USER:
        return False
    flags = connection.get("flags", "")
    if type is not None and ("P" in flags) != (type == "pubsub"):
        return False
    if blocked and not ("b" in flags and connection.get("cmd") == "brpop"):
        return False
    # Replicas and monitors are nobody's that CLIENT KILL TYPE normal or pubsub means.
    return not set(flags) & set("SMO") and (db is None or connection.get("db") == str(db))


def _source(run: Run, **named: str | None) -> str | None:
    """The one process that is named, as the history calls it."""
    given = [(role, name) for role, name in named.items() if name is not None]
    if len(given) > 1:
        raise UsageError("name one process, or none", where=run.step.place, hint=f"one of: {', '.join(named)}")
    for role, name in given:
        return run.process(role, name).source
    return None


def _ports(run: Run, broker: str, source: str) -> set[str]:
    """Our side of the connections that a process and its children have to a server, by /proc."""
    server = run.broker(broker)
    if server.spec.socket:
        raise UsageError(
            f"broker {broker!r} is reached by its unix socket: its connections cannot be told apart",
            where=run.step.place,
            hint="leave out whose connections are meant, or leave out `socket: true`",
        )
    pids = {event.pid: event.source for event in run.live.of("hello")}
    return {str(port) for port, owner in run.links.owners(broker, pids).items() if owner == source}
