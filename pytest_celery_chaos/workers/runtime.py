"""One environment per Celery version, for workers that run under another Celery than the installed one.

Each is a virtual environment in the cache folder, made at first use. kombu is pinned to Celery's own minor version:
a plain installation of an older Celery takes the newest kombu and does not start.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.system import wait

#: Seconds that making one environment may take, the wait for another process that is making it included.
MOST_SECONDS: Final = 600.0
#: The oldest Python that the recorder runs on.
_OLDEST: Final = (3, 10)
_LINES = 15


@dataclass(frozen=True)
class Pinned:
    """What an environment consists of.

    :param requirements: for pip; known to work together.
    :param newest: the newest Python that this Celery supports.
    """

    requirements: tuple[str, ...]
    newest: tuple[int, int]


def _pinned(minor: str, redis: str, newest: tuple[int, int]) -> Pinned:
    # kombu needs `packaging` and does not say so.
    return Pinned((f"celery=={minor}.*", f"kombu=={minor}.*", redis, "packaging"), newest)


PINNED: Final = {
    "5.3": _pinned("5.3", "redis>=5.0,<5.4", (3, 12)),
    "5.4": _pinned("5.4", "redis>=5.0,<5.4", (3, 12)),
    "5.5": _pinned("5.5", "redis>=5.2,<=5.2.1", (3, 13)),
    "5.6": _pinned("5.6", "redis>=6.4,<6.5", (3, 14)),
    "5.7": _pinned("5.7", "redis>=8.1,<9", (3, 14)),
}


def python_for(celery_version: str, more: tuple[str, ...] = ()) -> Path:
    """The Python of the environment with that Celery; made if it is not there yet (some seconds, needs the network).

    It holds Celery alone, and *more*: an application that imports more must do without ``celery:``, or bring it on
    PYTHONPATH.
    Safe to call at the same time in several processes: one makes it, the others wait.

    :param celery_version: ``5.3`` … ``5.7``.
    :param more: further requirements; each set of them has an environment of its own.
    :raises UsageError: another version, or no Python on this machine that it supports.
    :raises StartFailed: it could not be made; the message ends with the installer's last lines.
    """
    pinned = PINNED.get(celery_version)
    if pinned is None:
        known = ", ".join(PINNED)
        raise UsageError(f"no environment is known for Celery {celery_version!r}", hint=f"the versions are {known}")
    base = _base_python(celery_version, pinned)
    folder = cache_folder() / "celery" / "-".join([celery_version, f"py{base.tag}", *map(_slug, more)])
    python = folder / "bin" / "python"
    if python.exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f".{folder.name}.lock"), celery_version):
            if not python.exists():  # else another process was faster
                _make(celery_version, base, (*pinned.requirements, *more), folder)
    except OSError as error:
        raise StartFailed(
            f"cannot write the cache: {error}",
            where=f"Celery {celery_version}",
            hint="set CELERY_CHAOS_CACHE to a folder that can be written",
        ) from None
    return python


def cache_folder() -> Path:
    """``CELERY_CHAOS_CACHE``, else the user's cache folder of the platform."""
    if named := os.environ.get("CELERY_CHAOS_CACHE"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("celery-chaos", appauthor=False)


@dataclass(frozen=True)
class _Base:
    """The Python that an environment is made from."""

    path: str
    version: tuple[int, int]

    @property
    def tag(self) -> str:
        return ".".join(map(str, self.version))


def _base_python(celery_version: str, pinned: Pinned) -> _Base:
    """This Python if the version supports it, else the newest on PATH that it does."""
    mine = sys.version_info[:2]
    if _OLDEST <= mine <= pinned.newest:
        return _Base(sys.executable, mine)
    for minor in range(pinned.newest[1], _OLDEST[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path is not None and _runs(path, minor):
            return _Base(path, (3, minor))
    newest = ".".join(map(str, pinned.newest))
    raise UsageError(
        f"Celery {celery_version} runs on Python 3.10 to {newest}, and this is {mine[0]}.{mine[1]}",
        hint=f"put a python3.10 … python{newest} on PATH",
    )


def _runs(path: str, minor: int) -> bool:
    """False for what only looks like a Python, such as a pyenv shim without the version behind it."""
    check = f"import sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
    try:
        return subprocess.run([path, "-c", check], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _slug(requirement: str) -> str:
    """A requirement as a part of a folder's name."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in requirement)


def _make(celery_version: str, base: _Base, requirements: Sequence[str], folder: Path) -> None:
    """Make the environment beside its place and rename it: what stands there is always complete."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        python = made / "bin" / "python"
        where = f"Celery {celery_version}"
        _run([base.path, "-m", "venv", "--without-pip", str(made)], where, "making the virtual environment")
        _run([*_installer(python), *requirements], where, "installing " + " ".join(requirements))
        check = "import celery, kombu.transport.redis; print(celery.__version__)"
        found = _run([str(python), "-c", check], where, "importing it").strip()
        if not found.startswith(f"{celery_version}."):
            raise StartFailed(f"the environment has Celery {found}", where=where, hint="report it with pip's settings")
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted removal has left
        made.rename(folder)


def _installer(python: Path) -> list[str]:
    """The command that installs into the environment of *python*; requirements follow."""
    uv = shutil.which("uv")
    if uv or importlib.util.find_spec("uv"):
        return [*([uv] if uv else [sys.executable, "-m", "uv"]), "pip", "install", "--python", str(python)]
    if importlib.util.find_spec("pip"):
        options = ["--disable-pip-version-check", "--no-input", "--quiet"]
        return [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    raise UsageError(
        "neither uv nor pip is there to make an environment with",
        where=sys.executable,
        hint="install one of them: python -m ensurepip, or uv",
    )


def _run(command: Sequence[str], where: str, doing: str) -> str:
    # The caller's PYTHONPATH is for its own Python, and may carry the recorder.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CELERY_"))}
    environment.setdefault("UV_NATIVE_TLS", "true")  # trust whom the machine trusts, as pip does
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartFailed(f"{doing} failed: {error}", where=where, hint="check the network and the cache") from None
    if done.returncode:
        lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LINES:])
        raise StartFailed(
            f"{doing} failed with exit code {done.returncode}",
            where=where,
            hint=f"check the network, and that pip finds these versions:\n{lines}",
        )
    return done.stdout


@contextmanager
def _lock(path: Path, celery_version: str) -> Iterator[None]:
    """One maker at a time; the lock goes with the process that holds it."""

    def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait.until(
            taken,
            what=f"another process to make Celery {celery_version}'s environment",
            timeout=MOST_SECONDS,
            every=0.05,
        )
        yield
    finally:
        os.close(descriptor)
