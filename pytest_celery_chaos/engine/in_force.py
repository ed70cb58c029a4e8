"""The faults of a run that are in force: how each heals, by itself or when it is told to, and the timers of it all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_celery_chaos.engine.live import Live
from pytest_celery_chaos.engine.plan import Step
from pytest_celery_chaos.errors import ChaosError, UsageError

Heal = Callable[[], None]


@dataclass
class _Broken:
    """A fault that is in force, and how it heals."""

    step: Step
    heal: Heal | None


class InForce:
    """Keeps what is broken. Used from the thread of the steps and from those of moments and timers."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._broken: list[_Broken] = []
        self._passing: list[Step] = []  # faults that heal by themselves, whether they have struck or not
        self._timers: list[threading.Timer] = []

    def expect(self, step: Step) -> None:
        """Know of *step* before it strikes: somebody may wait for its heal."""
        if step.heal_after is not None:
            self._passing.append(step)

    def add(self, step: Step, heal: Heal | None) -> None:
        """The fault of *step* is in force from now on; after its ``for`` it heals by itself."""
        broken = _Broken(step, heal)
        self._broken.append(broken)
        if step.heal_after is not None:
            self.later(step.heal_after, lambda: self._heal_by_time(broken))

    def has(self, name: str) -> bool:
        """Whether a fault of the step *name* is in force."""
        return any(broken.step.name == name for broken in self._broken)

    def heal(self, name: str | None = None) -> None:
        """Heal the fault of the step *name*, or all faults, the newest first.

        :raises UsageError: no fault of that name is in force.
        """
        chosen = [broken for broken in self._broken if name is None or broken.step.name == name]
        if name is not None and not chosen:
            raise UsageError(f"no fault called {name!r} is in force", hint="`heal: all` heals whatever there is")
        failed: ChaosError | None = None
        for broken in reversed(chosen):
            try:
                self._heal(broken)
            except ChaosError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def wait_healed(self, name: str | None, timeout: float) -> None:
        """Wait until the fault of the step *name*, or every fault, has healed that heals by itself.

        :param timeout: seconds.
        :raises WaitExpired: it has not by then.
        """
        from pytest_celery_chaos.system.wait import until

        def healed() -> bool:
            done = {event.attrs.get("index") for event in self._live.of("heal") if event.phase != "invoke"}
            begun = {event.attrs.get("index") for event in self._live.of("fault")}
            # By its name a fault is awaited also before it has struck.
            wanted = [step for step in self._passing if step.name == name or (name is None and step.index in begun)]
            return {step.index for step in wanted} <= done

        until(healed, what=f"{name or 'every fault'} to heal", timeout=timeout)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do *action* after *delay* seconds, unless the run is over by then."""
        timer = threading.Timer(delay, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def timers_running(self) -> bool:
        """Whether a step after a duration, or a heal after its ``for``, is still to come."""
        return any(timer.is_alive() for timer in self._timers)

    def cancel_timers(self) -> None:
        """Nothing more happens by itself."""
        for timer in self._timers:
            timer.cancel()

    def _heal_by_time(self, broken: _Broken) -> None:
        try:
            self._heal(broken)
        except ChaosError as error:
            self._live.emit("error", error=str(error), where=broken.step.place)

    def _heal(self, broken: _Broken) -> None:
        if broken not in self._broken:
            return
        self._broken.remove(broken)
        if broken.heal is None:
            return
        what: dict[str, Any] = {"verb": broken.step.verb, "name": broken.step.name, "index": broken.step.index}
        self._live.emit("heal", "invoke", **what)
        try:
            broken.heal()
        except Exception as error:
            self._live.emit("heal", "fail", error=str(error), **what)
            if isinstance(error, ChaosError):
                raise
            raise UsageError(f"heal {broken.step.verb}: {type(error).__name__}: {error}") from error
        self._live.emit("heal", "ok", **what)
