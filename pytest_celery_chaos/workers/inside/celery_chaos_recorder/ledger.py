"""One file a process, each event put there at once: what was written before a SIGKILL is never lost.

By one ``write(2)`` an event, or through memory (:mod:`.mapped`). The file is opened O_APPEND and never shared: a
process killed inside a write leaves a torn last line, which must not be glued to somebody else's. After a fork the
child opens its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from _thread import RLock  # gevent does not replace this one
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from .mapped import Mapped

#: A longer string of an event is cut: events stay small, since a kill tears large writes.
LONGEST = 200


def _encoder() -> Callable[[Any], str]:
    """Compact JSON. ``JSONEncoder.encode`` makes its C encoder anew at every call; where that can be kept, it is."""
    slow = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode
    try:
        # The arguments that json.encoder itself gives it, on Python 3.10 to 3.14; no markers: events hold no cycles.
        kept = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None, str, json.encoder.encode_basestring, None, ":", ",", False, False, True
        )
        sample = {"t": 1, "text": 'é"\n', "list": [None, True, 0.5, {"odd": json}]}
        if "".join(kept(sample, 0)) == slow(sample):
            return lambda record: "".join(kept(record, 0))
    except Exception:
        pass  # another Python's json
    return slow


_encode = _encoder()
_quote = json.encoder.encode_basestring

_PASSWORD = re.compile(r"(?P<scheme>[a-z0-9+]+://)(?P<user>[^:/@\s]*):(?P<secret>[^@/\s]+)@", re.IGNORECASE)


def redact(text: Any) -> Any:
    """*text* with the password of every URL replaced by ``***``; what is no string stays."""
    if isinstance(text, str) and "://" in text:
        return _PASSWORD.sub(r"\g<scheme>\g<user>:***@", text)
    return text


def clip(value: Any) -> Any:
    """*value*, cut if it is a long string, and without passwords."""
    if isinstance(value, str):
        if "://" in value:
            value = redact(value)
        if len(value) > LONGEST:
            return value[: LONGEST - 1] + "…"
    return value


def clipped(attrs: dict[str, Any]) -> dict[str, Any]:
    """What is written of an event's attributes: not what is None; each as :func:`clip` has it."""
    return {key: clip(value) for key, value in attrs.items() if value is not None}


class Ledger:
    """The events of this process.

    Safe in threads and in signal handlers (the lock is reentrant), and never raises into the recorded code: what
    cannot be written (a full disk) shows later as a gap in the numbers.

    :param folder: where ledgers lie; must exist.
    :param source: whom the events are about, ``worker:a``.
    :param mapped: write through memory where that can be, which costs less; for a process that has one ledger for
        life, since what is mapped stays so. A reader on another machine sees it when the file system thinks fit.
    """

    def __init__(self, folder: str, source: str, *, mapped: bool = False) -> None:
        self.folder = folder
        self.source = source
        self._may_map = mapped
        self._heads: dict[tuple[str, str | None], str] = {}
        self._file: int | None = None
        self._mapped: Mapped | None = None
        self.open()

    def open(self) -> None:
        """Start a new file for the process that calls. The one that was inherited is left to its owner."""
        self.close()
        self._lock = RLock()  # a fork may have copied it while another thread held it
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self.pid = os.getpid()
        self._pid = f',"pid":{self.pid},"n":'
        self.n = 0
        self._torn = False
        name = f"{self.source.replace(':', '-').replace('/', '-')}.{self.pid}.{monotonic_ns()}.ndjson"
        self.path = f"{self.folder}/{name}"
        try:
            self._file = file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._identity = self._stat(file)
            self._end = os.lseek(file, 0, os.SEEK_END)
        except OSError:
            self._file = None
            return
        if self._may_map and hasattr(os, "posix_fallocate"):
            with contextlib.suppress(OSError):
                self._mapped = Mapped(file)

    def close(self) -> None:
        """Close the file, unless somebody closed it already and the number belongs to another file now."""
        file, self._file, self._mapped = self._file, None, None
        if file is not None and self._stat(file) == self._identity:
            os.close(file)

    def write(self, kind: str, phase: str | None, task: str | None, attrs: dict[str, Any]) -> tuple[int, int]:
        """Write one event with the next number and the time of now, and return its time and number.

        *attrs*, whose keys are identifiers, are written :func:`clipped`. All in one function and by hand: inside a
        worker each further call costs several times of what it costs in a loop of its own, since between two events
        Celery's code has taken the processor's caches. For the same reason a value of the common types is not handed
        to the JSON encoder, and the lock is not asked for by ``with``.
        """
        try:
            head = self._heads[kind, phase]
        except KeyError:
            head = self._heads[kind, phase] = self._head(kind, phase)
        end = "}\n"
        if attrs:
            text = ""
            for key, value in attrs.items():
                if value.__class__ is str:
                    if len(value) > LONGEST or "://" in value:
                        value = clip(value)
                    text = f'{text},"{key}":{_quote(value)}'
                elif value is False:
                    text = f'{text},"{key}":false'
                elif value.__class__ is int:
                    text = f'{text},"{key}":{value}'
                elif value is not None:
                    text = f'{text},"{key}":{_encode(clip(value))}'
            if text:
                end = f',"attrs":{{{text[1:]}}}}}\n'
        whose = f',"task":{_quote(str(task))}' if task is not None else ""
        self._acquire()
        try:
            t, n = monotonic_ns(), self.n
            self.n = n + 1
            line = f'{{"t":{t}{head}{whose}{self._pid}{n}{end}'.encode("utf-8", "backslashreplace")
            size, mapped = len(line), self._mapped
            while mapped is not None:
                at = mapped.at
                after = at + size
                if after <= mapped.room:
                    # No call from reading `at` to here: a signal's handler, which may write too, runs after calls.
                    mapped.at = after
                    mapped.memory[at:after] = line
                    return t, n
                mapped = self._grown(size)
            self._append(line)
        finally:
            self._release()
        return t, n

    def _grown(self, size: int) -> Mapped | None:
        """The mapped file with room for *size* bytes more; None: from now on lines are written."""
        mapped = self._mapped
        if mapped is not None:
            file = self._file
            try:
                # Certain here: no write has moved the file, so any that was just opened stands where it does.
                if file is None or self._stat(file) != self._identity:
                    file = self._reopen()
                mapped.grow(file, size)
            except OSError:
                self._mapped = None
                self._end = -1  # where no file stands: whose the number is, is not known
            if self._mapped is None:  # or a signal's handler has found that out in between
                mapped.finish()
        return self._mapped

    def _append(self, line: bytes) -> None:
        file = self._file
        if file is None:
            return
        try:
            # Daemons close every file they did not open; the number may since belong to a socket of the user's.
            if not self._is_ours(file):
                file = self._reopen()
            if self._torn:
                line = b"\n" + line
            written = os.write(file, line)
            self._end += written
            self._torn = written < len(line)
        except OSError:
            self._torn = True

    def _head(self, kind: str, phase: str | None) -> str:
        """What the lines of such events have in common, from source to phase."""
        head = f',"source":{_quote(self.source)},"kind":"{kind}"'
        return head if phase is None else f'{head},"phase":"{phase}"'

    def record(self, t: int, kind: str, phase: str | None, task: str | None) -> dict[str, Any]:
        """An event of the time *t* as a record, without number and attributes."""
        record: dict[str, Any] = {"t": t, "source": self.source, "kind": kind}
        if phase is not None:
            record["phase"] = phase
        if task is not None:
            record["task"] = task
        record["pid"] = self.pid
        return record

    def _is_ours(self, file: int) -> bool:
        """Whether the number still means our file: it stands where our last write, the only ones there are, left it.

        `fstat` would be certain and costs five times as much: Linux marks the times of a file as read, and then the
        next write has to store new ones (1.3 µs beside the call's own 0.6 µs, Linux 6.18).
        """
        try:
            return os.lseek(file, 0, os.SEEK_CUR) == self._end
        except OSError:
            return False

    def _reopen(self) -> int:
        # The old number is left as it is: a signal's handler that breaks in here may be about to write there.
        self._file = file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._identity = self._stat(file)
        self._end = os.lseek(file, 0, os.SEEK_END)
        return file

    @staticmethod
    def _stat(file: int) -> tuple[int, int] | None:
        try:
            status = os.fstat(file)
        except OSError:
            return None
        return status.st_dev, status.st_ino
