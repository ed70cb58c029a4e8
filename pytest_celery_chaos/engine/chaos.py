"""The ``chaos`` fixture's object: the verbs of a scenario as methods, for a test that has code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.engine.plan import Expectation, Hazard, Step
from pytest_celery_chaos.engine.run import Run
from pytest_celery_chaos.engine.verbs import Checks, Verbs
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.history.log import History
from pytest_celery_chaos.registry import Verb
from pytest_celery_chaos.values import parse_duration

if TYPE_CHECKING:
    from pytest_celery_chaos.clients.rebind import Rebound
    from pytest_celery_chaos.engine.session import Session


class Chaos(Verbs):
    """Breaks the test's own broker and workers, and says what must hold nevertheless.

    Every verb of a scenario file is a method with the same name and arguments: ``kill: {worker: a}`` is
    ``chaos.kill(worker="a")``. Beside a verb's own arguments each takes

    - ``name``: by which later calls and checks mean this step;
    - ``when``: the moment to wait for, ``{"before": "ack", "task": result.id}``; the call returns at once, the
      process that reaches the moment is held while the step is carried out;
    - ``for_``: after how long a fault heals, ``"2s"`` or seconds.

    A task is meant by its id, its ``AsyncResult``, its name, the task itself, or the name of a ``send``.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.expect = Expect()
        self.session: Session
        self.rebound: Rebound | None = None
        self.finished = False
        self._steps = 0

    @property
    def app(self) -> Any:
        """The application under test, bound to this test's broker. Raises UsageError where none was named."""
        if self.rebound is None:
            raise UsageError("no application of yours is under test", hint="name it: ini option chaos_app")
        return self.rebound.app

    @property
    def history(self) -> History:
        """What has happened so far."""
        return History(list(self.run.live.read()))

    def keys(self) -> dict[str, Any]:
        """What lies in the broker and the result backend now: queues, unacked, index, mutex, bindings, results."""
        return self.run.look()

    def _perform(self, verb: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from pytest_celery_chaos.scenario.arguments import validate
        from pytest_celery_chaos.scenario.declared import moment_of

        if args:
            raise UsageError(f"{verb.name} takes keyword arguments only", hint=f"{', '.join(verb.parameters)}")
        name, when, lasts = (kwargs.pop(key, None) for key in ("name", "when", "for_"))
        self._steps += 1
        family = "fault" if verb.family == "fault" else "workload"
        step = Step(
            index=self._steps,
            verb=verb.name,
            family=family,  # type: ignore[arg-type]
            args=validate(verb, {key: _plain(value) for key, value in kwargs.items()}),
            name=name,
            when=None if when is None else moment_of({key: _plain(value) for key, value in when.items()}),
            heal_after=parse_duration(lasts) if isinstance(lasts, str) else lasts,
        )
        return self.run.perform(step)


class Expect(Checks):
    """``chaos.expect.executions(task=result, max=1)``: a check of the whole history, judged when the test is over.

    ``hazard={"seen": 2, "ref": "KF-20", "why": "…"}`` records a violation that is known.
    """

    def __init__(self) -> None:
        self.expectations: list[Expectation] = []

    def _expect(self, check: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        from pytest_celery_chaos.scenario.arguments import validate

        if args:
            raise UsageError(f"{check.name} takes keyword arguments only", hint=f"{', '.join(check.parameters)}")
        hazard: Mapping[str, Any] | None = kwargs.pop("hazard", None)
        given = validate(check, {key: _plain(value) for key, value in kwargs.items()})
        hazards = [Hazard(**hazard)] if hazard else []
        self.expectations.append(Expectation(check.name, given, hazards))


def _plain(value: Any) -> Any:
    """A task's id for its result, a task's name for the task itself; anything else as it is."""
    module = type(value).__module__.partition(".")[0]
    if hasattr(value, "id") and hasattr(value, "get") and module == "celery":
        return value.id
    if hasattr(value, "apply_async") and hasattr(value, "name"):
        return value.name
    return value
