"""One run under way: what a verb acts on, and how its steps, moments and heals are carried out."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.external import refused, target
from pytest_celery_chaos.brokers.keyspace import Keyspace
from pytest_celery_chaos.brokers.server import RedisServer
from pytest_celery_chaos.clients.client import Client
from pytest_celery_chaos.engine.apps import places
from pytest_celery_chaos.engine.environment import Environment
from pytest_celery_chaos.engine.eyes import Eyes
from pytest_celery_chaos.engine.folder import RunFolder
from pytest_celery_chaos.engine.gate import Armed, Gate
from pytest_celery_chaos.engine.in_force import Heal as Heal
from pytest_celery_chaos.engine.in_force import InForce
from pytest_celery_chaos.engine.labels import Labels
from pytest_celery_chaos.engine.links import Links
from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.engine.pattern import describe, pattern_of
from pytest_celery_chaos.engine.plan import Moment, Plan, Step, plain
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ChaosError, NoAnswer, UsageError
from pytest_celery_chaos.faults import FAULTS
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.workers.process import Worker
from pytest_celery_chaos.workers.recorded import Recorded
from pytest_celery_chaos.workloads import PUBLISHING, WORKLOADS

if TYPE_CHECKING:
    from redis import Redis

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
#: Seconds that a process is held at a moment before it goes on by itself, unless the moment says otherwise.
HOLD_DEADLINE = 30.0


class Run:
    """What verbs act on. Made by the runner and by the ``chaos`` fixture."""

    def __init__(self, plan: Plan, session: Session) -> None:
        self.plan = plan
        self._session = session
        self.doing("start")
        self.folder = RunFolder(session.store, plan.scenario, plan.variant, begun=session.keeper.run_begun)
        self.folder.write("plan.json", plan.to_record())
        temp = session.keeper.temp_folder()
        self.live = Live(self.folder.ledgers)
        axes, where = dict(plan.axes), places(plan)
        more: dict[str, Any] = {"spaces": where} if len(set(where.values())) > 1 else {}
        self.live.emit("run", id=self.folder.id, scenario=plan.scenario, variant=plan.variant, axes=axes, **more)
        self.gate = Gate(temp, self.live.emit)
        self.live.on_own(self.gate.seen)
        self._labels = Labels(step.name for step in plan.steps if step.verb in PUBLISHING and step.name)
        self.environment = Environment(
            plan,
            session=session,
            folder=self.folder.path,
            temp=temp,
            live=self.live,
            prefix_of=self.prefix_of,
        )
        for entry, task in {n: e.task for beat in plan.beats.values() for n, e in beat.schedule.items()}.items():
            self.declare(entry, task, 0)
        #: By label, what `get` waits for: the id of a group or None, and the ids of its members or of the last task.
        self.awaited: dict[str, dict[str, Any]] = {}
        self.in_force = InForce(self.live)
        self._armed: list[tuple[Armed, Step, int]] = []  # and how many events there were before it was armed
        self._current = threading.local()
        self._done: dict[str, float] = {}
        #: Set when the steps are over: a beat that a fault has ended is not started again any more.
        self.settling = False
        self.eyes = Eyes(plan, self.environment, self.live)

    def doing(self, what: str) -> None:
        """Say what is being done, for the progress line."""
        self._session.doing = what

    def kept(self) -> Sequence[str]:
        """What is left up on purpose (``--chaos-keep``), how to reach it and how to end it, as lines of text."""
        if not self._session.keep:
            return []
        addresses = [f"still up: {address}" for address in self.environment.addresses()]
        return [*addresses, f"to end all that is still up: kill {self._session.keeper.pid}"]

    # -- what verbs use -------------------------------------------------------------------------------------------

    def client_of(self, name: str | None = None) -> Client:
        """The client of that name; by default the first that the scenario lists.

        :raises UsageError: there is none.
        """
        return self.environment.client(name)

    @property
    def step(self) -> Step:
        """The step that is being carried out on this thread."""
        step: Step = self._current.step
        return step

    def process(self, role: str, name: str) -> Recorded:
        """The worker, client or beat of that name."""
        return self.environment.process(role, name)

    def worker(self, name: str) -> Worker:
        return self.environment.worker(name)

    def broker(self, name: str) -> RedisServer:
        return self.environment.servers[name]

    @property
    def links(self) -> Links:
        """The links of the run, and the proxy behind them."""
        return self.environment.links

    def missed(self, step: Step, moment: str) -> None:
        """Write down that something armed by *step* has had nothing to act on."""
        self.live.emit("missed", moment=moment, verb=step.verb, index=step.index, place=step.place)

    def meant(self, task: str) -> dict[str, str]:
        """What *task* (a step's name, a task's name, an id) means, as the beginning of an id or a task's name."""
        if task in self._labels:
            return {"task": self.prefix_of(task)}
        return {"task" if _UUID.fullmatch(task) else "name": task}

    def tell(self, **what: Any) -> None:
        """Write beside the step's outcome (its ``ok``) what it acted on."""
        self._current.told = {**getattr(self._current, "told", {}), **what}

    def let_go(self) -> None:
        """The fault has been applied: the process held for this step goes on now, while the step waits for more."""
        armed: Armed | None = getattr(self._current, "armed", None)
        if armed is not None:
            armed.release()

    def keep_holding(self) -> Heal:
        """Keep the process of this step's moment waiting when the step is over; returns what lets it go.

        :raises UsageError: the step stands at no moment, or nobody is held there.
        """
        armed: Armed | None = getattr(self._current, "armed", None)
        if armed is None:
            raise UsageError("nothing to hold: the step has no moment", hint="give it a `when:`", where=self.step.place)
        armed.keep = True
        return armed.release

    def prefix_of(self, label: str) -> str:
        """The beginning of the ids of the messages that the step *label* publishes, or a part of it (``c.body``)."""
        return self._labels.prefix_of(label)

    def declare(self, label: str, task: str, times: int) -> str:
        """Make *label* known as the name of a step that publishes; returns the beginning of its ids."""
        self._labels.add(label)
        prefix = self.prefix_of(label)
        self.live.emit("label", label=label, prefix=prefix, name=task, times=times)
        return prefix

    def ids_of(self, task: str) -> Sequence[str]:
        """The ids published so far that *task* (a step's name, a task's name, an id) means."""
        prefix = self.prefix_of(task) if task in self._labels else None
        found: dict[str, None] = {}
        for event in self.live.of("publish"):
            if event.task is not None:
                hit = event.task.startswith(prefix) if prefix else task in (event.task, event.attrs.get("name"))
                if hit:
                    found[event.task] = None
        return list(found)

    def wait_for(self, **moment_of: Any) -> Event:
        """Wait until the history has the event of a moment; one that is there already will do.

        :param moment_of: the fields of :class:`~pytest_celery_chaos.engine.plan.Moment`.
        :raises WaitExpired: not within its ``timeout`` seconds (default 30).
        """
        from pytest_celery_chaos.system.wait import until

        moment = Moment(**moment_of)
        pattern = pattern_of(moment, self.prefix_of, self._labels)
        position, seen = 0, 0

        def reached() -> Event | None:
            nonlocal position, seen
            for event in self.live.since(position):
                position += 1
                seen += pattern.matches(event)
                if seen == moment.nth:
                    return event
            return None

        return until(
            reached,
            what=describe(moment),
            timeout=moment.timeout or 30.0,
            last=self.live.last_words,
        )

    def wait_polling(self, worker: str, timeout: float) -> None:
        """Wait until a worker waits for messages in BRPOP.

        :param timeout: seconds.
        :raises UsageError: it does not run.
        :raises WaitExpired: it does not within that time, or its broker does not answer.
        """
        from pytest_celery_chaos.system.wait import until

        process, said = self.environment.worker(worker), ""

        def polls() -> bool:
            nonlocal said
            process.running()
            try:
                said = "it does something else"
                return worker not in self.environment.busy_consumers()
            except NoAnswer as error:
                said = error.what
                return False

        until(polls, what=f"worker {worker} to wait for messages (BRPOP)", timeout=timeout, last=lambda: said)

    def let_pass(self, seconds: float) -> None:
        """Let a time pass that the scenario asks for; nothing is synchronised by it."""
        threading.Event().wait(seconds)

    def look(self, name: str | None = None) -> dict[str, Any]:
        """What lies in the broker and the backend now, by plain reads; also an event of the history.

        :raises WaitExpired: a server does not answer.
        """
        return self.eyes.look(name)

    def last_look(self) -> dict[str, Any]:
        """The look at the end; see :meth:`Eyes.last_look`."""
        return self.eyes.last_look()

    def measure(self, name: str | None) -> Event:
        """Write down what is stored, by role, and who is connected: the ``storage`` event called *name*."""
        from pytest_celery_chaos.engine.storage import measure

        return measure(self, name)

    def keys(self, *, results: bool = False) -> dict[str, Any]:
        """What lies in the broker now (and in the backend), without an event of the history.

        :raises NoAnswer: a server does not answer now.
        """
        return self.eyes.keys(results=results)

    def keyspaces(self) -> list[Keyspace]:
        """Where the run's applications keep messages and results; the main application's comes first."""
        return self.environment.keyspaces()

    def redis(self, broker: str = "main", db: int = 0) -> Redis:
        """The harness's own connection to a server's database, for plain reads."""
        return self.environment.servers.redis(broker, db)

    def queues(self) -> Mapping[tuple[str, int, str], Sequence[str]]:
        """By :attr:`Keyspace.messages`, every queue that a worker consumes from or a publish named."""
        return self.eyes.queues()

    # -- steps and moments ----------------------------------------------------------------------------------------

    def perform(self, step: Step) -> Any:
        """Carry out *step* now, or arm its moment.

        :returns: what a workload has to say (the value that ``get`` got).

        :raises ChaosError: the step failed; a failure of an armed step is in the history, which judges it.
        """
        self._allowed(step)
        self.doing(f"step {step.index}: {step.verb}" + (f" {step.name}" if step.name else ""))
        self.in_force.expect(step)
        if step.when is None:
            return self._carry_out(step, None)
        if step.when.delay is not None:
            self._later(step, step.when)
        else:
            self._arm(step, step.when)
        return None

    def _allowed(self, step: Step) -> None:
        """Raises UsageError for a fault that may not be done to the server that it is done to."""
        named = target(step.verb, step.args)
        if named in self.environment.servers.all and (no := refused(self.broker(named).spec, step.verb)) is not None:
            raise UsageError(no[0], where=step.place, hint=no[1])

    def heal(self, name: str | None = None) -> None:
        """Heal the fault of the step *name*, or all faults, the newest first (see :meth:`InForce.heal`)."""
        if name is not None and not self.in_force.has(name):
            self._await_strike(name)
        self.in_force.heal(name)

    def _await_strike(self, name: str) -> None:
        """Wait for the fault of the step *name* where its moment has come: a process writes the event, then comes to
        the gate, and the step that applies the fault may be still at it."""
        from pytest_celery_chaos.system.wait import until

        for armed, step, begun in self._armed:
            if step.name == name and not armed.fired:
                come = sum(armed.pattern.matches(event) for event in self.live.since(begun))
                if come >= armed.nth:
                    until(lambda armed=armed: armed.fired, what=f"{name} to strike", timeout=HOLD_DEADLINE)  # type: ignore[misc]
        self.gate.settle(HOLD_DEADLINE)

    def unreached(self) -> Sequence[Step]:
        """Steps whose moment has not come; each is made an event."""
        missing = [step for armed, step, _ in self._armed if not armed.fired]
        for step in missing:
            assert step.when is not None
            self.missed(step, describe(step.when))
        return missing

    def release_all(self) -> None:
        """No more moments, no more timers: whoever is held goes on."""
        self.in_force.cancel_timers()
        self.gate.close()

    def _arm(self, step: Step, moment: Moment) -> None:
        pattern = pattern_of(moment, self.prefix_of, self._labels)
        deadline = moment.timeout or HOLD_DEADLINE
        begun = len(self.live.read())
        armed = self.gate.arm(pattern, lambda held, event: self._react(step, held), nth=moment.nth, deadline=deadline)
        self._armed.append((armed, step, begun))
        self.live.emit("armed", rule=armed.number, moment=describe(moment), verb=step.verb, index=step.index)

    def _later(self, step: Step, moment: Moment) -> None:
        # A time to wait for is what the scenario asks for here; nothing is synchronised by it.
        delay = moment.delay or 0.0
        if moment.since is not None:
            if moment.since not in self._done:
                raise UsageError(f"the step {moment.since!r} has not happened yet", where=step.place)
            delay = max(0.0, self._done[moment.since] + delay - _now())
        self.in_force.later(delay, lambda: self._react(replace(step, when=None), None))

    def _react(self, step: Step, armed: Armed | None) -> None:
        try:
            self._carry_out(step, armed)
        except ChaosError as error:
            self.live.emit("error", error=str(error), where=step.place)

    def _carry_out(self, step: Step, armed: Armed | None) -> Any:
        kind = "fault" if step.family == "fault" else "step"
        what: dict[str, Any] = {"verb": step.verb, "name": step.name, "index": step.index}
        verb = (FAULTS if step.family == "fault" else WORKLOADS)[step.verb]
        outer = getattr(self._current, "step", None), getattr(self._current, "armed", None)
        self._current.step, self._current.armed, self._current.told = step, armed, {}
        self.live.emit(kind, "invoke", args=plain(step.args), **what)
        try:
            outcome = verb.function(self, **step.args)
        except ChaosError as error:
            self.live.emit(kind, "fail", error=str(error), **what)
            raise
        except Exception as error:
            self.live.emit(kind, "fail", error=f"{type(error).__name__}: {error}", **what)
            raise UsageError(f"{step.verb}: {type(error).__name__}: {error}", where=step.place) from error
        finally:
            self._current.step, self._current.armed = outer
        self.live.emit(kind, "ok", **self._current.told, **what)
        if step.name:
            self._done[step.name] = _now()
        if step.family == "workload":
            return outcome
        self.in_force.add(step, outcome)
        return None


def _now() -> float:
    import time

    return time.monotonic()
