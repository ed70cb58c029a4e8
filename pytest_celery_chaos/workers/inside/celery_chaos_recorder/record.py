"""The one function by which hooks write events: :func:`emit`. It writes, holds where armed, and never raises."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from .gate import Gate
from .ledger import Ledger, clip, clipped

#: Set by the first recorded process of a tree, so that an interpreter which a task starts is not taken for it.
FIRST = "CELERY_CHAOS_FIRST_PID"
#: Ids of one event that are written; rules are matched against all.
MOST_IDS = 50
#: Tasks whose name is remembered at least, for rules by name at events that know only the id.
_MOST_NAMES = 20_000
_WITH_NAME = frozenset({"send", "publish", "popped", "received", "started"})


class Recorder:
    """Ledger and gate of this process.

    :param role: ``main``, ``child`` (forked from a recorded process), ``spawned`` (a new interpreter started by
        one), ``test`` (the test process itself).
    """

    def __init__(self, folder: str, source: str, control: str | None, role: str) -> None:
        self.ledger = Ledger(folder, source, mapped=role != "test")  # a test process has a ledger for each test
        self.role = role
        self.names: dict[str, str] = {}
        self._older_names: dict[str, str] = {}
        self.gate: Gate | None = None
        self.hello()
        if control:
            try:
                self.gate = Gate(control)
            except (OSError, ValueError) as error:
                self.write("hook_failed", hook="gate", error=repr(error))

    def hello(self) -> None:
        clock: dict[str, Any] = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        if hasattr(time, "CLOCK_BOOTTIME"):
            clock["boottime"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        argv = [clip(argument) for argument in sys.orig_argv[:40]]
        self.write("hello", role=self.role, argv=argv, ppid=os.getppid(), versions=versions(), **clock)

    def after_fork(self) -> None:
        self.ledger.open()
        self.role = "child"
        self.hello()

    def write(self, kind: str, phase: str | None = None, task: str | None = None, **attrs: Any) -> None:
        """Write an event; of *attrs*, what is None is left out, and long strings are cut."""
        self.ledger.write(kind, phase, task, attrs)

    def name_of(self, task: str | None) -> str | None:
        return (self.names.get(task) or self._older_names.get(task)) if task else None

    def remember(self, task: str, name: str) -> None:
        if len(self.names) >= _MOST_NAMES:
            # Not the oldest one alone: to find the first key of a dict that loses its first keys takes ever longer.
            self._older_names, self.names = self.names, {}
        self.names[task] = name

    def hold(
        self,
        kind: str,
        phase: str | None,
        task: str | None,
        name: str | None,
        ids: Sequence[str],
        record: dict[str, Any] | None,
    ) -> None:
        """Wait, if a rule says so; *record* is the event that was written, None for one that never is."""
        gate = self.gate
        if gate is None:
            return
        name = name or self.name_of(task)
        rules = gate.match(kind, phase, self.ledger.source, task, name, ids)
        if not rules:
            return
        told = record or self.ledger.record(time.monotonic_ns(), kind, phase, task)
        # The harness judges the event once more, by what it is told: the name, and ids that were too many to write.
        told["attrs"] = attrs = dict(told.get("attrs", {}))
        if name:
            attrs.setdefault("name", name)
        if ids:
            attrs["ids"] = [*attrs["ids"], *(each for rule in rules for each in rule.meant(ids)[:MOST_IDS])]
        ended = gate.hold(rules, told)
        if ended:
            how, ns = ended
            self.write("released", None, task, rules=[rule.id for rule in rules], how=how, held=ns)


_recorder: Recorder | None = None
_versions: dict[str, str] | None = None
_forks_watched = False
#: What was to be written before there was a ledger: None where nothing waits for one.
_waiting: list[tuple[str, str | None, str | None, dict[str, Any]]] | None = None


def versions() -> dict[str, str]:
    """Versions of Python and of what the recorded code stands on."""
    global _versions
    if _versions is None:
        from importlib.metadata import PackageNotFoundError, version

        _versions = {"python": sys.version.split()[0]}
        for package in ("celery", "kombu", "redis", "valkey", "billiard"):
            try:
                _versions[package] = version(package)
            except PackageNotFoundError:
                continue
    return _versions


def await_fork() -> None:
    """Open no ledger in this process, which is nobody's yet: the fork that becomes a worker calls :func:`begin`."""
    global _waiting
    _waiting = []
    versions()  # known in each fork


def begin(folder: str, source: str, control: str | None, role: str) -> None:
    """Open the ledger of this process and say hello; again after every fork."""
    global _recorder, _forks_watched, _waiting
    if _recorder is None:
        waiting, _waiting = _waiting, None
        _recorder = Recorder(folder, source, control, role)
        for kind, phase, task, attrs in waiting or ():
            _recorder.write(kind, phase, task, **attrs)
        if not _forks_watched:
            os.register_at_fork(after_in_child=_after_fork)
            _forks_watched = True


def begin_from_environment() -> None:
    """:func:`begin`, with what the harness put into the environment; later, in a process that waits for its fork."""
    if "CELERY_CHAOS_SOURCE" not in os.environ and _waiting is not None:
        return
    pid = str(os.getpid())
    role = "main" if os.environ.setdefault(FIRST, pid) == pid else "spawned"
    folder, source = os.environ["CELERY_CHAOS_LEDGERS"], os.environ.get("CELERY_CHAOS_SOURCE", "worker:?")
    begin(folder, source, os.environ.get("CELERY_CHAOS_CONTROL"), role)


def end() -> None:
    """Close the ledger: nothing is recorded any more."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.ledger.close()


def _after_fork() -> None:
    if _recorder is not None:
        _recorder.after_fork()


def in_client() -> bool:
    """Whether this process is a client, or a test that uses the application as one."""
    return _recorder is not None and _recorder.ledger.source.startswith("client:")


def role() -> str | None:
    """The role of this process (see :class:`Recorder`); None: nothing is recorded."""
    return _recorder.role if _recorder is not None else None


def emit(
    kind: str,
    phase: str | None = None,
    task: str | None = None,
    *,
    name: str | None = None,
    ids: Sequence[str] = (),
    holds: bool = True,
    **attrs: Any,
) -> None:
    """Write an event, then wait if one is armed for it.

    :param name: the task's name, for rules; written with the events that open a stage.
    :param ids: the ids that a remote-control command is about.
    :param holds: False inside signal handlers, where nobody may wait.
    """
    recorder = _recorder
    if recorder is None:
        if _waiting is not None:
            _waiting.append((kind, phase, task, attrs))
        return
    if name and kind in _WITH_NAME:
        attrs["name"] = name
        if task and task not in recorder.names:
            recorder.remember(task, name)
    if ids:
        attrs["ids"] = list(ids[:MOST_IDS])
        if len(ids) > MOST_IDS:
            attrs["ids_in_all"] = len(ids)
    try:
        t, n = recorder.ledger.write(kind, phase, task, attrs)
        gate = recorder.gate
        # The page is looked at here first, for the sake of the many events at which nothing at all is armed.
        if holds and gate is not None and (gate.armed or gate.page[:8] != gate.seen) and gate.rules(kind):
            record = {**recorder.ledger.record(t, kind, phase, task), "n": n, "attrs": clipped(attrs)}
            recorder.hold(kind, phase, task, name, ids, record)
    except Exception as error:
        _complain(recorder, error)


def hold(kind: str, phase: str | None = None, task: str | None = None) -> None:
    """Wait if armed, at an event that is never written (``pop``: there is one every second)."""
    recorder = _recorder
    if recorder is None or (gate := recorder.gate) is None or not (gate.armed or gate.page[:8] != gate.seen):
        return
    try:
        if gate.rules(kind):
            recorder.hold(kind, phase, task, None, (), None)
    except Exception as error:
        _complain(recorder, error)


def _is_of_a_signal(error: Exception) -> bool:
    """Whether a signal's handler has raised it while the recorder was at work: a soft time limit, a cold shutdown.

    That is meant for the recorded code. Other code than ours runs in here only where an object is asked for its text.
    """
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if not str(frame.f_globals.get("__name__")).startswith((__package__, "json")):
            return frame.f_code.co_name not in ("__str__", "__repr__")
        step = step.tb_next
    return False


def _complain(recorder: Recorder, error: Exception) -> None:
    """The recorded code must never see an error of the recorder's, and the history does; any other one is for it."""
    if _is_of_a_signal(error):
        raise error
    recorder.write("hook_failed", hook="emit", error=repr(error))
