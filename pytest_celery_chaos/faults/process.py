"""Faults of processes: workers, brokers, clients and beats are signalled, stopped, killed, paused, started again."""

from __future__ import annotations

import contextlib
import signal as signals
from typing import TYPE_CHECKING, Final, Literal

from pytest_celery_chaos.clients.beat import Beat
from pytest_celery_chaos.errors import StartFailed, UsageError, WaitExpired
from pytest_celery_chaos.values import BeatRef, BrokerRef, ClientRef, Duration, SignalName, WorkerRef
from pytest_celery_chaos.workers.recorded import STOP_SIGNALS, Recorded

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.engine.run import Heal, Run
    from pytest_celery_chaos.system.child import Child

#: Signals that end a process of Celery or a server, sooner or later.
_ENDING: Final = frozenset({"KILL", "TERM", "QUIT", "INT", "ABRT", "SEGV"})
_GONE_WITHIN: Final = 10.0


def kill(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    signal: SignalName = "KILL",
    target: Literal["group", "main", "child"] = "group",
    for_good: bool = False,
) -> Heal | None:
    """Send a signal to a process: a worker, a broker, a client or a beat; by default SIGKILL to its whole group.

    Heals by starting it again, if the signal ended it (a beat not any more when the steps are over).

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name. What it was told to do and has not done is left undone.
    :param beat: the beat, by name.
    :param signal: the signal's name, with or without ``SIG``.
    :param target: of a worker: its process ``group``, its ``main`` process, or the first ``child`` of its pool.
    :param for_good: nothing heals it, unless a step does: it has been replaced by others.
    :raises UsageError: none or several were named, there is no such signal, or it does not run.
    """
    number, name = _signal(signal)
    victim = _victim(run, worker=worker, broker=broker, client=client, beat=beat)
    child = victim.child  # whoever waits for its end may start it again before we come to look
    if not isinstance(victim, Recorded):
        victim.kill(number)
        heals = name in _ENDING and not for_good
        return (lambda: _revive_broker(run, victim, after=child)) if heals else None
    victim.kill(number, target=target, ending=name in _ENDING)
    if name == "KILL" and target != "child" and child is not None:
        # Before anybody is let go: a command of its that is held on a link must find its sender gone.
        child.wait(_GONE_WITHIN)
    run.let_go()
    heals = name in _ENDING and target != "child" and not for_good
    return (lambda: _revive(run, victim, after=child)) if heals else None


def stop(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    how: Literal["warm", "soft", "cold", "kill"] = "warm",
    grace: Duration = 30.0,
    for_good: bool = False,
) -> Heal | None:
    """Stop a process as an orchestrator does: a signal, a grace period, then SIGKILL.

    Heals by starting it again (a beat not any more when the steps are over).

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name.
    :param beat: the beat, by name. It saves its schedule.
    :param how: ``warm`` is SIGTERM, ``kill`` is SIGKILL at once. Of a worker ``cold`` and ``soft`` are SIGQUIT; which
        of the two it is, the worker's ``worker_soft_shutdown_timeout`` decides.
    :param grace: seconds until SIGKILL.
    :param for_good: as in ``kill``.
    :raises UsageError: none or several were named, or it does not run.
    """
    victim = _victim(run, worker=worker, broker=broker, client=client, beat=beat)
    if not isinstance(victim, Recorded):
        if how == "kill":
            victim.kill()
        else:
            victim.stop()
        return None if for_good else lambda: _revive_broker(run, victim)
    child = victim.child
    victim.kill(STOP_SIGNALS[how], target="group" if how == "kill" else "main")
    run.let_go()
    assert child is not None
    try:
        child.wait(grace)
    except WaitExpired:
        child.signal(signals.SIGKILL, group=True)
        child.wait(_GONE_WITHIN)
    # Children that outlive a main process (prefork after a cold shutdown) are not part of a stopped worker.
    child.signal(signals.SIGKILL, group=True)
    return None if for_good else lambda: _revive(run, victim)


def start(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    data: Literal["keep", "lose", "cut", "empty"] = "keep",
    ready: bool = True,
    may_fail: bool = False,
) -> None:
    """Start a process that is not running, and wait until it is ready: a beat until its first tick.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name.
    :param beat: the beat, by name.
    :param data: as in ``restart``.
    :param ready: False goes on at once, for a process that cannot become ready (its broker is away).
    :param may_fail: True goes on, too, when it has ended instead: whether it starts is what is looked at.
    :raises StartFailed: it ended, or was not ready in time.
    """
    victim = _victim(run, worker=worker, broker=broker, client=client, beat=beat)
    if not isinstance(victim, Recorded):
        if data != "keep":
            raise UsageError(f"start of a broker with data {data!r}", hint="restart: {broker: …, data: lose}")
        run.environment.servers.start_one(victim.name)
        return
    _treat(run, victim, data)
    try:
        run.environment.start_process(victim, ready=ready)
    except StartFailed:
        if not may_fail or victim.alive:
            raise


def restart(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
    how: Literal["warm", "soft", "cold", "kill"] | None = None,
    data: Literal["keep", "lose", "cut", "empty"] = "keep",
    grace: Duration = 30.0,
) -> None:
    """Stop a process and start it again; a broker comes back on its port.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name.
    :param beat: the beat, by name.
    :param how: as in ``stop``; default ``kill`` for a broker, ``warm`` for all others.
    :param data: of a broker: ``keep`` starts it on the files that it left, ``lose`` on an empty folder. Of a beat: what
        becomes of the file of its schedule; ``cut`` leaves the first half of it, as a crash in the middle of a write
        does, ``empty`` nothing of it, as a full disk does.
    :param grace: as in ``stop``.
    """
    victim = _victim(run, worker=worker, broker=broker, client=client, beat=beat)
    if isinstance(victim, Recorded):
        stop(run, worker=worker, client=client, beat=beat, how=how or "warm", grace=grace)
        _treat(run, victim, data)
        run.environment.start_process(victim)
        return
    if data not in ("keep", "lose"):
        raise UsageError(f"restart of a broker with data {data!r}", where=run.step.place, hint="`keep` or `lose`")
    if victim.alive and how != "warm":
        victim.kill()
    victim.restart(data)
    run.environment.servers.online(victim)


def pause(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
) -> Heal | None:
    """Freeze a process and its children with SIGSTOP: their sockets stay open, nobody answers. Heals with SIGCONT.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name.
    :param beat: the beat, by name.
    """
    victim = _victim(run, worker=worker, broker=broker, client=client, beat=beat)
    victim.pause()
    return lambda: victim.resume() if victim.alive else None


def resume(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    client: ClientRef | None = None,
    beat: BeatRef | None = None,
) -> None:
    """Let a paused process go on (SIGCONT).

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param client: the client, by name.
    :param beat: the beat, by name.
    """
    _victim(run, worker=worker, broker=broker, client=client, beat=beat).resume()


def _victim(run: Run, **named: str | None) -> Recorded | RedisServer:
    """The one process that is named: by its role, ``worker="a"``."""
    given = [(role, name) for role, name in named.items() if name is not None]
    if len(given) != 1:
        raise UsageError(
            f"name one of: {', '.join(named)}",
            where=run.step.place,
            hint="for example `{worker: a}` or `{broker: main}`",
        )
    role, name = given[0]
    return run.broker(name) if role == "broker" else run.process(role, name)


def _treat(run: Run, victim: Recorded, data: Literal["keep", "lose", "cut", "empty"]) -> None:
    """Do to what a process has kept on disk what *data* says."""
    if isinstance(victim, Beat):
        victim.treat(data)
    elif data != "keep":
        raise UsageError(
            f"{victim.role} {victim.name!r} with data {data!r}",
            where=run.step.place,
            hint="brokers and beats have data",
        )


def _signal(name: str) -> tuple[int, str]:
    short = name.upper().removeprefix("SIG")
    try:
        return signals.Signals[f"SIG{short}"], short
    except KeyError:
        raise UsageError(f"no signal is called {name!r}", hint="KILL, TERM, QUIT, INT, HUP, USR1, STOP …") from None


def _revive(run: Run, victim: Recorded, *, after: Child | None = None) -> None:
    _ended(victim, after)
    if not victim.alive and not (run.settling and isinstance(victim, Beat)):
        run.environment.start_process(victim)


def _revive_broker(run: Run, server: RedisServer, *, after: Child | None = None) -> None:
    _ended(server, after)
    if not server.alive:
        run.environment.servers.start_one(server.name)


def _ended(victim: Recorded | RedisServer, child: Child | None) -> None:
    """Give a signalled process the time to end, so that the heal finds it gone; one that goes on needs no heal."""
    if child is not None and victim.child is child:
        with contextlib.suppress(WaitExpired):
            child.wait(_GONE_WITHIN)
