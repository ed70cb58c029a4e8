"""Faults of a server's state, each named for what it then answers: READONLY, MISCONF, LOADING."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.errors import NoAnswer, UsageError
from pytest_celery_chaos.faults.filler import FILLER, FILLER_DB
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.values import BrokerRef, Duration

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.engine.run import Heal, Run

#: Save points that are never due in a run; a server without any does not mind that it cannot save.
_SAVE_POINT: Final = "86400 1000000"
_SAVED_WITHIN: Final = 20.0
_BATCH: Final = 100


def readonly(run: Run, *, broker: BrokerRef = "main") -> Heal:
    """Make the server a replica of nobody (REPLICAOF), as a failover does: it refuses writes. Heals with NO ONE.

    Whoever waits in BRPOP is answered UNBLOCKED, whoever writes READONLY. Reads are answered.

    :param broker: the server, by name.
    """
    with answering():
        redis: Any = run.redis(broker, 0)
        redis.replicaof("127.0.0.1", 1)  # where nobody listens

    def heal() -> None:
        with answering():
            redis.replicaof("NO", "ONE")

    return heal


def misconf(run: Run, *, broker: BrokerRef = "main") -> Heal:
    """Let the server fail to save its snapshot (BGSAVE), so that it refuses writes (MISCONF). Heals by a good one.

    As on a disk that is full or not writable, with ``stop-writes-on-bgsave-error`` as it is by default. A server
    without save points gets one for so long, since it would not mind.

    :param broker: the server, by name.
    :raises UsageError: the server is told to go on (``stop-writes-on-bgsave-error no``).
    """
    server = run.broker(broker)
    with answering():
        redis: Any = run.redis(broker, 0)
        if redis.config_get("stop-writes-on-bgsave-error")["stop-writes-on-bgsave-error"] != "yes":
            raise UsageError(
                f"broker {broker!r} goes on when it cannot save: stop-writes-on-bgsave-error is no",
                where=run.step.place,
                hint="leave that option out",
            )
        points = redis.config_get("save")["save"]
        unblock = server.block(redis.config_get("dbfilename")["dbfilename"])
        if not points:
            redis.config_set("save", _SAVE_POINT)
        _save(redis, ends="err")

    def heal() -> None:
        unblock()
        if not server.alive:
            return
        with answering():
            if points:
                _save(redis, ends="ok")
            else:
                redis.config_set("save", "")

    return heal


def _save(redis: Any, *, ends: str) -> None:
    """Have a snapshot written in the background, and wait for how it ends."""
    wait.until(
        lambda: not redis.info("persistence")["rdb_bgsave_in_progress"], what="a save under way", timeout=_SAVED_WITHIN
    )
    redis.bgsave()

    def ended() -> bool:
        said = redis.info("persistence")
        return not said["rdb_bgsave_in_progress"] and said["rdb_last_bgsave_status"] == ends

    wait.until(ended, what=f"BGSAVE to end with {ends}", timeout=_SAVED_WITHIN)


def loading(run: Run, *, broker: BrokerRef = "main", lasts: Duration = 10.0) -> Heal:
    """Restart the server with so much data that it answers LOADING for a while. Heals by letting it load at once.

    It is stopped in good order (SIGTERM) and loses nothing. What it loads beside the data of applications is the
    harness's, and taken away when it is healed. Redis 6.2 lets nobody hasten it: there a heal waits for its end.

    :param broker: the server, by name.
    :param lasts: seconds until it has loaded everything, unless it is healed before.
    :raises UsageError: it has no persistence, and so nothing to load.
    """
    server = run.broker(broker)
    if server.spec.persistence == "none":
        raise UsageError(
            f"broker {broker!r} has no persistence: it has nothing to load",
            where=run.step.place,
            hint="give it `persistence: rdb` or one of aof-everysec, aof-always, aof-no",
        )
    with answering():
        names, options = _enlarge(run.redis(broker, FILLER_DB), lasts)
        if server.spec.persistence != "rdb":
            _rewrite(run.redis(broker, 0))
    server.stop()
    server.start(arguments=options, answers="-LOADING")

    def heal() -> None:
        if server.alive:
            _load_at_once(run, server, lasts)
            redis: Any = run.redis(broker, FILLER_DB)
            with answering():
                for begin in range(0, len(names), _BATCH):
                    redis.delete(*names[begin : begin + _BATCH])

    return heal


def _enlarge(redis: Any, lasts: float) -> tuple[list[str], list[str]]:
    """Write what takes so long to load; returns the names, and the options under which it does."""
    interval = "loading-process-events-interval-bytes"
    if redis.config_get(interval):
        delay, size, options = 0.01, 512, [f"--{interval}", "1024"]
    else:
        # Redis 6.2 answers between every two megabytes that it has read.
        delay, size, options = 0.1, 512 * 1024, []
    redis.config_set("rdbcompression", "no")
    redis.config_set("auto-aof-rewrite-percentage", 0)  # the one that is asked for shall be the only one
    names = [f"{FILLER}{number}" for number in range(max(1, round(lasts / delay)))]
    for begin in range(0, len(names), _BATCH):
        redis.mset(dict.fromkeys(names[begin : begin + _BATCH], b"\0" * size))
    return names, [*options, "--key-load-delay", str(round(delay * 1_000_000))]


def _rewrite(redis: Any) -> None:
    """Have the append-only file rewritten: what it begins with is read key by key, and not command by command."""

    def idle() -> bool:
        said = redis.info("persistence")
        return not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]

    wait.until(idle, what="a rewrite under way", timeout=_SAVED_WITHIN)
    redis.bgrewriteaof()
    wait.until(idle, what="BGREWRITEAOF", timeout=_SAVED_WITHIN)


def _load_at_once(run: Run, server: RedisServer, lasts: float) -> None:
    from redis import ResponseError

    patient: Any = server.client(FILLER_DB, socket_timeout=_SAVED_WITHIN)
    with answering(), contextlib.suppress(ResponseError):
        patient.config_set("key-load-delay", 0)

    def loaded() -> bool:
        try:
            with answering():
                return bool(patient.ping())
        except NoAnswer:
            return False

    wait.until(loaded, what=f"broker {server.name} to have loaded its data", timeout=2 * lasts + _SAVED_WITHIN)
    patient.close()
    run.environment.servers.online(server)
