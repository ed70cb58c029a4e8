"""The files that events are written to while a run goes on, and how they are followed.

One file for each process that records, each event put there at once, by one ``write(2)`` or through memory: what was
written before a SIGKILL is never lost, and nobody else's line is torn by it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_celery_chaos.errors import StoredRunError, redact
from pytest_celery_chaos.history.event import Event, Phase
from pytest_celery_chaos.history.lines import Parser


class Ledger:
    """Writes the harness's own events; may be used from any thread.

    :param folder: where the ledgers of the run are; it must exist.
    :param source: who writes, and whom an event is about unless it says otherwise.
    """

    def __init__(self, folder: Path, source: str) -> None:
        from pytest_celery_chaos import __version__

        self.source = source
        self._lock = threading.RLock()  # reentrant: a signal handler may emit while its own thread is emitting
        self._n = 0
        self._pid = os.getpid()
        self.path = folder / f"{source.replace(':', '-').replace('/', '-')}.{self._pid}.{time.monotonic_ns()}.ndjson"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.emit(
            "hello",
            role=source.partition(":")[0],
            argv=list(sys.argv),
            ppid=os.getppid(),
            versions={"pytest-celery-chaos": __version__, "python": platform.python_version()},
            monotonic=time.monotonic_ns(),
            realtime=time.time_ns(),
            boottime=time.clock_gettime_ns(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None,
        )

    def emit(
        self,
        kind: str,
        phase: Phase | None = None,
        task: str | None = None,
        by: str | None = None,
        source: str | None = None,
        **attrs: Any,
    ) -> Event:
        """Write an event down and return it. Passwords in URLs are taken out.

        :param source: whom it is about (default: the ledger's own); then *by* is the ledger's own source.
        :raises StoredRunError: if it cannot be written (disk full, ledger closed): a history with a hole is worthless.
        """
        about = source or self.source
        by = by or (self.source if about != self.source else None)
        with self._lock:  # time and number under one lock: in a ledger, both rise together
            event = Event(time.monotonic_ns(), about, kind, phase, task, self._pid, self._n, by, _clean(attrs))
            line = event.to_line().encode() + b"\n"
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError as error:
                raise StoredRunError(
                    f"event {kind!r} cannot be written: {error}", where=str(self.path), hint="free space on that disk"
                ) from error
            self._n += 1
        return event

    def close(self) -> None:
        """Close the file; emitting afterwards raises."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clean(value: Any) -> Any:
    """The value without passwords: only strings that look like URLs are changed."""
    if isinstance(value, str):
        return redact(value) if "://" in value else value
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


class _Followed:
    """A ledger that is read while it grows."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest, self._read = bytearray(), 0

    def read(self) -> bytearray:
        """What was read and not taken away yet, and what is new. A NUL is what is not written yet (see `lines`)."""
        size = 1 << 13  # behind the last line of a mapped file there is so much to read each time
        while data := os.pread(self.fd, size, self._read):
            written = data.partition(b"\0")[0]
            self._rest += written
            self._read += len(written)
            if len(written) < len(data):
                break
            size = 1 << 18
        return self._rest


class Tail:
    """Follows every ledger of a folder, also those that appear later.

    Events of one process come in their order; those of different processes may come a little out of order, between
    one :meth:`read` and the next. A line that is not finished yet is kept for later.

    :ivar broken: lines that were no events, as ``file: text``; a run that has one is inconclusive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broken: list[str] = []
        self._parser = Parser()
        self._files: dict[str, _Followed] = {}

    def read(self) -> list[Event]:
        """What is new since the last call, by time. Cheap where nothing is."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name not in self._files and entry.name.endswith(".ndjson"):
                    # Gone again before it could be opened: somebody clears the folder.
                    with contextlib.suppress(FileNotFoundError):
                        self._files[entry.name] = _Followed(os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC))
        events: list[Event] = []
        for name, followed in self._files.items():
            rest = followed.read()
            end = rest.rfind(b"\n") + 1
            if end:
                lines = bytes(rest[:end]).splitlines(keepends=True)
                del rest[:end]
                new, bad = self._parser.parse(lines)
                events += new
                self.broken += [f"{name}: {lines[index][:120].decode(errors='replace').rstrip()}" for index in bad]
        events.sort(key=lambda event: event.t)
        return events

    def close(self) -> None:
        """Let go of the files, and of every text that was remembered: of a long run they are many megabytes."""
        self._parser = Parser()
        for followed in self._files.values():
            os.close(followed.fd)
        self._files.clear()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
