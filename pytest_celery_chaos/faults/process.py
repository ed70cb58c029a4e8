"""Faults of processes: workers and brokers are signalled, stopped, killed, paused, started again."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING, Literal

from pytest_celery_chaos.errors import UsageError, WaitExpired
from pytest_celery_chaos.values import BrokerRef, Duration, SignalName, WorkerRef
from pytest_celery_chaos.workers.process import STOP_SIGNALS, Worker

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.local import LocalServer
    from pytest_celery_chaos.engine.run import Heal, Run

#: Signals that end a Celery worker or a server, sooner or later.
_ENDING = frozenset({"KILL", "TERM", "QUIT", "INT", "ABRT", "SEGV"})
_GONE_WITHIN = 10.0


def kill(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    signal: SignalName = "KILL",
    target: Literal["group", "main", "child"] = "group",
) -> Heal | None:
    """Send a signal to a worker or a broker; by default SIGKILL to the worker's whole process group.

    Heals by starting it again, if the signal ended it.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param signal: the signal's name, with or without ``SIG``.
    :param target: of a worker: its process ``group``, its ``main`` process, or the first ``child`` of its pool.
    :raises UsageError: neither or both were named, there is no such signal, or it does not run.
    """
    number, name = _signal(signal)
    if worker is not None and broker is None:
        victim = run.worker(worker)
        child = victim.child  # whoever waits for its end may start the worker again before we come to look
        victim.kill(number, target=target, ending=name in _ENDING)
        run.let_go()
        if name == "KILL" and target != "child" and child is not None:
            child.wait(_GONE_WITHIN)
        return (lambda: _revive(run, victim)) if name in _ENDING and target != "child" else None
    server = _server(run, worker, broker)
    server.kill(number)
    return (lambda: _revive_broker(run, str(broker))) if name in _ENDING else None


def stop(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    how: Literal["warm", "soft", "cold", "kill"] = "warm",
    grace: Duration = 30.0,
) -> Heal | None:
    """Stop a worker or a broker as an orchestrator does: a signal, a grace period, then SIGKILL.

    Heals by starting it again.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param how: of a worker: ``warm`` is SIGTERM, ``cold`` and ``soft`` are SIGQUIT (which of the two it is, the
        worker's ``worker_soft_shutdown_timeout`` decides), ``kill`` is SIGKILL at once. A broker gets SIGTERM.
    :param grace: seconds until SIGKILL.
    :raises UsageError: neither or both were named, or it does not run.
    """
    if worker is not None and broker is None:
        victim = run.worker(worker)
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
        return lambda: _revive(run, victim)
    server = _server(run, worker, broker)
    if how == "kill":
        server.kill()
    else:
        server.stop()
    return lambda: _revive_broker(run, str(broker))


def start(run: Run, *, worker: WorkerRef | None = None, broker: BrokerRef | None = None, ready: bool = True) -> None:
    """Start a worker or a broker that is not running, and wait until it is ready.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param ready: False goes on at once, for a worker that cannot become ready (its broker is away).
    :raises StartFailed: it ended, or was not ready in time.
    """
    if worker is not None and broker is None:
        run.environment.start_worker(run.worker(worker), ready=ready)
    else:
        _server(run, worker, broker)
        run.environment.start_broker(str(broker))


def restart(
    run: Run,
    *,
    worker: WorkerRef | None = None,
    broker: BrokerRef | None = None,
    how: Literal["warm", "soft", "cold", "kill"] | None = None,
    data: Literal["keep", "lose"] = "keep",
    grace: Duration = 30.0,
) -> None:
    """Stop a worker or a broker and start it again; a broker comes back on its port.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    :param how: as in ``stop``; default ``warm`` for a worker, ``kill`` for a broker.
    :param data: of a broker: ``keep`` starts it on the files that it left, ``lose`` on an empty folder.
    :param grace: as in ``stop``.
    """
    if worker is not None and broker is None:
        stop(run, worker=worker, how=how or "warm", grace=grace)
        run.environment.start_worker(run.worker(worker))
        return
    server = _server(run, worker, broker)
    if server.alive and how != "warm":
        server.kill()
    server.restart(data)
    run.environment.online(str(broker))


def pause(run: Run, *, worker: WorkerRef | None = None, broker: BrokerRef | None = None) -> Heal | None:
    """Freeze a worker or a broker with SIGSTOP: its sockets stay open and nobody answers. Heals with SIGCONT.

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    """
    if worker is not None and broker is None:
        victim = run.worker(worker)
        victim.kill(signals.SIGSTOP, ending=False)
        return lambda: _thaw(victim)
    server = _server(run, worker, broker)
    server.pause()
    return lambda: server.resume() if server.alive else None


def resume(run: Run, *, worker: WorkerRef | None = None, broker: BrokerRef | None = None) -> None:
    """Let a paused worker or broker go on (SIGCONT).

    :param worker: the worker, by name.
    :param broker: the server, by name, instead of a worker.
    """
    if worker is not None and broker is None:
        run.worker(worker).kill(signals.SIGCONT, ending=False)
    else:
        _server(run, worker, broker).resume()


def _server(run: Run, worker: str | None, broker: str | None) -> LocalServer:
    if broker is None or worker is not None:
        raise UsageError("name one of: worker, broker", where=run.step.place, hint="for example `{worker: a}`")
    return run.broker(broker)


def _signal(name: str) -> tuple[int, str]:
    short = name.upper().removeprefix("SIG")
    try:
        return signals.Signals[f"SIG{short}"], short
    except KeyError:
        raise UsageError(f"no signal is called {name!r}", hint="KILL, TERM, QUIT, INT, HUP, USR1, STOP …") from None


def _revive(run: Run, victim: Worker) -> None:
    if not victim.alive:
        run.environment.start_worker(victim)


def _revive_broker(run: Run, name: str) -> None:
    if not run.broker(name).alive:
        run.environment.start_broker(name)


def _thaw(victim: Worker) -> None:
    if victim.alive:
        victim.kill(signals.SIGCONT, ending=False)
