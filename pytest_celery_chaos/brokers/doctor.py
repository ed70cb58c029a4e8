"""What this machine has and lacks for running scenarios, as rows; each problem with the command that ends it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from pytest_celery_chaos.brokers.find import NAMES, Binary, available, cache_folder
from pytest_celery_chaos.errors import ChaosError

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Row:
    """One thing looked at.

    :param state: ``problem``: no scenario can run; ``note``: something optional is absent or tight.
    :param found: what is there.
    :param hint: what to do, where something is to be done.
    """

    name: str
    state: State
    found: str
    hint: str = ""


def rows() -> list[Row]:
    """Look at everything. A look that fails is itself a row."""
    found: list[Row] = []
    for look in (_python, _packages, _servers, _cache, _kernel, _limits, _loopback, _optional):
        try:
            found += look()
        except (OSError, ChaosError, ValueError) as error:
            found.append(Row(look.__name__.strip("_"), "problem", str(error)))
    return found


def can_run(found: list[Row]) -> bool:
    """Whether a scenario can run at all."""
    return all(row.state != "problem" for row in found)


def _python() -> Iterator[Row]:
    fine = sys.version_info >= (3, 10)
    version = f"{platform.python_version()} ({sys.executable})"
    yield Row("python", "ok" if fine else "problem", version, "" if fine else "Python 3.10 or newer")


def _packages() -> Iterator[Row]:
    for name in ("celery", "kombu", "redis"):
        version = _version(name)
        hint = "" if version else f"run `{sys.executable} -m pip install {name}`"
        yield Row(name, "ok" if version else "problem", version or "not installed", hint)
    valkey = _version("valkey")
    yield Row(
        "valkey (client)", "ok" if valkey else "note", valkey or "not installed", "" if valkey else "for valkey://"
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _servers() -> Iterator[Row]:
    """A row for each server found, and one for each that could be installed and is not there."""
    binaries = available()
    for binary in binaries:
        yield Row(f"server {binary.server} {binary.version}", "ok", f"{binary.source}: {binary.path}")
    for name in NAMES:
        if not any(_is(binary, name) for binary in binaries):
            state: State = "note" if binaries else "problem"
            yield Row(f"server {name}", state, "not found", f"run `celery-chaos servers install {name}`")


def _is(binary: Binary, name: str) -> bool:
    return f"{binary.server}-{binary.version}.".startswith(f"{name}.")


def _cache() -> Iterator[Row]:
    folder = existing = cache_folder()
    while not existing.exists():
        existing = existing.parent
    if os.access(existing, os.W_OK | os.X_OK):
        yield Row("cache folder", "ok", str(folder))
    else:
        yield Row("cache folder", "note", f"{folder} cannot be written", "set CELERY_CHAOS_CACHE to a folder that can")


def _kernel() -> Iterator[Row]:
    """What the keeper needs to find every descendant: /proc, and to inherit those whose parent is gone."""
    seen = Path("/proc/self/stat").exists()
    yield Row("/proc", "ok" if seen else "problem", "mounted" if seen else "absent", "" if seen else "Linux with /proc")
    subreaper = _can_be_subreaper()
    yield Row(
        "subreaper",
        "ok" if subreaper else "problem",
        "allowed" if subreaper else "refused",
        "" if subreaper else "allow prctl(PR_SET_CHILD_SUBREAPER), Linux 3.4 or newer",
    )


def _can_be_subreaper() -> bool:
    # In a process of its own: it would change this one.
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) != 0)"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, timeout=20).returncode == 0


def _limits() -> Iterator[Row]:
    for name, limit, enough in (
        ("open files", resource.RLIMIT_NOFILE, 1024),
        ("processes", resource.RLIMIT_NPROC, 256),
    ):
        soft = resource.getrlimit(limit)[0]
        fine = soft == resource.RLIM_INFINITY or soft >= enough
        found = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
        yield Row(name, "ok" if fine else "note", found, "" if fine else f"{enough} or more (`ulimit`)")
    pids = _cgroup_pids()
    if pids is not None:
        yield Row(
            "cgroup pids", "ok" if pids >= 128 else "note", f"{pids} free", "" if pids >= 128 else "fewer with -j 1"
        )
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    fine = high - low >= 1000
    yield Row(
        "local ports", "ok" if fine else "note", f"{low} to {high}", "" if fine else "net.ipv4.ip_local_port_range"
    )


def _cgroup_pids() -> int | None:
    """How many processes more the cgroup (version 2) allows; None: no limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        folder = Path("/sys/fs/cgroup") / line.split(":", 2)[2].lstrip("/")
        try:
            return int((folder / "pids.max").read_text()) - int((folder / "pids.current").read_text())
        except (OSError, ValueError):
            continue
    return None


def _loopback() -> Iterator[Row]:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
    yield Row("loopback", "ok", "127.0.0.1 can be bound")


def _optional() -> Iterator[Row]:
    """What only some scenarios use: its absence is a note."""
    for name, use, asked in (
        ("docker", "for scenarios that ask for containers", _docker),
        ("toxiproxy-server", "for scenarios with slow or lossy links", _path_of("toxiproxy-server")),
    ):
        found = asked()
        yield Row(name, "ok" if found else "note", found or "not found", "" if found else use)


def _path_of(program: str) -> Callable[[], str | None]:
    return lambda: shutil.which(program)


def _docker() -> str | None:
    program = shutil.which("docker")
    if program is None:
        return None
    try:
        command = [program, "version", "--format", "{{.Server.Version}}"]
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return f"engine {asked.stdout.strip()}" if asked.returncode == 0 and asked.stdout.strip() else None
