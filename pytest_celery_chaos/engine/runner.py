"""From a plan to a judged run: start, steps, heal, quiet, end, judge."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback

from pytest_celery_chaos.brokers.keys import empty
from pytest_celery_chaos.checks.judge import judge
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.quiet import OpenCopies
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ChaosError, NoAnswer, WaitExpired
from pytest_celery_chaos.history.store import write_history
from pytest_celery_chaos.history.verdict import Verdict
from pytest_celery_chaos.system.wait import until

#: What a run is doing after an error or a Ctrl-C, before its processes are ended.
HEALING = "heal"
#: So long after an event (seconds) the broker is looked at every time, and this seldom from then on.
_LIVELY, _SELDOM = 0.2, 0.1


def run_plan(plan: Plan, session: Session) -> tuple[Verdict, Run]:
    """Run *plan* and judge it. What fails on the way is in the history, and makes the verdict inconclusive.

    Whatever happens, Ctrl-C among it, faults are healed in reverse order and every process is ended.
    """
    run = Run(plan, session)
    try:
        try:
            run.environment.start()
            run.measure("start")
            for step in plan.steps:
                run.perform(step)
            settle(run)
        except Exception as error:
            failed(run, error)
            _heal_anyway(run)
    except BaseException as error:
        run.live.emit("error", error=f"interrupted: {type(error).__name__}")
        _heal_anyway(run)
        raise
    finally:
        finish(run, session)
    return conclude(run, session), run


def failed(run: Run, error: Exception) -> None:
    """Write down what has ended the steps before their time; an error that is not ours with all that is known of it."""
    if isinstance(error, ChaosError):
        run.live.emit("error", error=str(error), where=error.where)
        return
    log = run.folder.path / "logs" / "harness.log"
    with log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    run.live.emit("error", error=f"{type(error).__name__}: {error} (more in logs/harness.log)")


def settle(run: Run) -> None:
    """After the last step: heal what is broken, then wait for quiet, or observe for as long as the plan says.

    With a beat that lives there is no quiet: it is stopped first, once all armed moments have come. While the plan
    observes, it goes on.
    """
    run.doing("the end")
    run.settling = True
    if run.plan.observe is not None:
        # The time itself is what is asked for: a loop, or a held ETA, never falls quiet.
        threading.Event().wait(run.plan.observe)
        run.live.emit("observed", seconds=run.plan.observe)
        run.unreached()
        run.heal()
    else:
        _await_moments(run)
        run.environment.stop_beats()
        run.heal()
        _await_quiet(run)
    run.measure("end")


def finish(run: Run, session: Session) -> None:
    """Release whoever is held, and end every process of the run, unless the session keeps them."""
    run.doing("end")
    run.release_all()
    if not session.keep:
        run.environment.end_workers()
    if run.live.of("observed"):
        # Looked at only now: what still ran then would be in doubt, neither ended nor in any key.
        try:
            run.last_look()
        except ChaosError as error:
            failed(run, error)
    if not session.keep:
        run.environment.end()
    run.live.emit("end")
    if not session.keep:
        session.keeper.remove_folder(run.environment.control)


def conclude(run: Run, session: Session) -> Verdict:
    """Merge the ledgers into the stored history, judge it, and store the verdict."""
    run.live.close()
    verdict = judge(write_history(run.folder.path, keep_ledgers=session.keep), run.plan.to_record())
    run.folder.finish(verdict.to_json())
    session.keeper.run_ended(run.folder.path)
    return verdict


def _await_moments(run: Run) -> None:
    """Steps that wait have until quiet would be over, and faults with a duration their time; the rest is missed."""
    rest = _Rest(run)

    def reached_or_hopeless() -> bool:
        if run.links.dead:
            return True
        if run.in_force.timers_running():
            return False
        if not run.gate.unreached() and not run.links.unused():
            return True
        # With everything at rest, nothing that is still armed can come any more.
        return rest.reached()

    with contextlib.suppress(WaitExpired, OSError):
        until(reached_or_hopeless, what="armed moments to be reached", timeout=run.plan.quiet, every=0.01)
    run.gate.settle(run.plan.quiet)
    run.unreached()


def _await_quiet(run: Run) -> None:
    rest = _Rest(run)

    def at_rest() -> bool:
        if run.links.dead:
            raise WaitExpired("quiet: the proxy has died")  # its links are down for good, and nothing is proved
        return rest.reached()

    try:
        until(at_rest, what="quiet", timeout=run.plan.quiet, last=lambda: rest.last, every=0.01)
    except WaitExpired:
        run.last_look()
        run.live.emit("quiet", "fail", seconds=run.plan.quiet, last=rest.last)
    else:
        run.last_look()
        run.live.emit("quiet", "ok")


class _Rest:
    """Whether all is at rest: nothing open in the history, and nothing under way in the broker.

    :ivar last: what was seen last that is still to come.
    """

    def __init__(self, run: Run) -> None:
        self.last = "nothing looked at yet"
        self._run = run
        self._copies, self._position = OpenCopies(), 0
        self._came = self._looked = time.monotonic()

    def reached(self) -> bool:
        events, now = self._run.live.read(), time.monotonic()
        if len(events) > self._position:
            self._came = now
            self._copies.follow(events[self._position :])
            self._position = len(events)
        if (open_copies := self._copies.describe()) != "":
            self.last = f"open: {open_copies}"
            return False
        # To look takes all of the broker's keys. Where nothing happens (for the length of a visibility timeout, most
        # often), looks that come seldom leave the processors to those who are waited for.
        if now - self._came > _LIVELY and now - self._looked < _SELDOM:
            return False
        self._looked = now
        self.last = _nothing_under_way(self._run, self._position)
        return self.last == ""


def _nothing_under_way(run: Run, position: int) -> str:
    """What is still to come, seen from the broker; empty where all is at rest.

    The order matters: with no message in any key, then every consumer waiting in BRPOP, then no word of any process
    since *position*, no message can be on its way between them.
    """
    try:
        found = run.keys()
        if not empty(found):
            return f"keys: { {key: found[key] for key in ('queues', 'unacked', 'index') if found[key]} }"
        if busy := run.environment.busy_consumers():
            return f"not waiting for messages: {', '.join(busy)}"
    except NoAnswer as error:
        return error.what
    return "" if len(run.live.read()) == position else "events still come"


def _heal_anyway(run: Run) -> None:
    run.doing(HEALING)
    try:
        run.heal()
    except ChaosError as error:
        run.live.emit("error", error=f"while healing: {error}")
