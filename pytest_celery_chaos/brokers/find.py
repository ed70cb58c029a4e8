"""Which server binaries this machine has, and which of them a scenario's ``server:`` and ``version:`` mean.

They are looked for in this order: a path that was named, an environment variable (:data:`ENVIRONMENT`), the cache
that ``celery-chaos servers install`` fills, PATH. The first place that has a fitting one wins; inside one place, the
newest. Nothing is started but ``server --version``, and for the cache not even that.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pytest_celery_chaos.brokers.spec import Server
from pytest_celery_chaos.errors import ServerNotFound

#: ``CELERY_CHAOS_SERVER_VALKEY`` names a binary for any version, ``CELERY_CHAOS_SERVER_VALKEY_8_1`` one for 8.1.
ENVIRONMENT: Final = "CELERY_CHAOS_SERVER_"
#: What ``celery-chaos servers install`` can install; the newest of each server first.
NAMES: Final = ("valkey-9.1", "valkey-8.1", "redis-6.2")
SERVERS: Final[tuple[Server, ...]] = ("valkey", "redis")
RECORD: Final = "server.json"

_VERSION = re.compile(r"^(Redis|Valkey) server v=(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Binary:
    """A server that can be started.

    :param server: what it says it is, whatever the name of its file.
    :param version: the version that it reports, ``9.1.2``.
    :param source: where it was found: ``path``, the environment variable's name, ``cache`` or ``PATH``.
    """

    path: Path
    server: Server
    version: str
    source: str

    @property
    def order(self) -> tuple[int, ...]:
        """The version as numbers, so that 10 comes after 9."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version))

    def fits(self, server: Server, version: str | None) -> bool:
        """Whether it is that server, in that version or in one that begins with it (``9`` and ``9.1`` fit 9.1.2)."""
        wanted = version.split(".") if version else []
        return self.server == server and self.version.split(".")[: len(wanted)] == wanted


def cache_folder() -> Path:
    """Where installed servers live: ``CELERY_CHAOS_CACHE``, else the user's cache folder of the platform."""
    if named := os.environ.get("CELERY_CHAOS_CACHE"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("celery-chaos", appauthor=False)


def find(server: Server, version: str | None = None, path: str | Path | None = None) -> Binary:
    """The binary for ``server:`` and ``version:``.

    :param version: a version or its beginning; None takes the newest of the first place that has one.
    :param path: the binary itself. Its own word on what it is counts; a *version* that it is not is an error.
    :raises ServerNotFound: nothing fits, or what was named explicitly does not run or is another version.
    """
    if path is not None:
        return _explicit(Path(path).expanduser(), version)
    for place in (_from_environment, _from_cache, _from_path):
        fitting = [binary for binary in place() if binary.fits(server, version)]
        if fitting:
            return max(fitting, key=lambda binary: binary.order)
    raise _not_found(server, version)


def available() -> list[Binary]:
    """Every server that :func:`find` could take, in its order; one binary is listed once."""
    found: dict[tuple[Path, str], Binary] = {}
    for place in (_from_environment, _from_cache, _from_path):
        for binary in sorted(place(), key=lambda binary: (binary.server, binary.order), reverse=True):
            found.setdefault((binary.path.resolve(), binary.version), binary)
    return list(found.values())


def probe(path: Path) -> tuple[Server, str]:
    """What the binary says of itself.

    :raises ServerNotFound: it does not exist, cannot be run here, or is no Redis or Valkey server.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ServerNotFound(f"no server at {path}: {error.strerror}", hint="name an existing binary") from None
    return _probe(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _probe(path: Path, mtime: int, size: int) -> tuple[Server, str]:
    try:
        answer = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerNotFound(
            f"{path} does not run: {error}", hint="is it executable, and made for this machine?"
        ) from None
    said = _VERSION.search(answer.stdout)
    if said is None:
        output = (answer.stderr or answer.stdout).strip()[-500:] or f"exit code {answer.returncode}, no output"
        raise ServerNotFound(
            f"{path} is no server that runs here; `{path.name} --version` says: {output}",
            hint=missing_libraries(path) or "name a redis-server or valkey-server",
        )
    return cast(Server, said[1].lower()), said[2]


def missing_libraries(path: Path) -> str | None:
    """The shared libraries that *path* needs and this machine lacks, as a sentence; None where nothing lacks."""
    try:
        listed = subprocess.run(["ldd", path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = [line.split("=>")[0].strip() for line in listed.stdout.splitlines() if "not found" in line]
    return f"install what it needs: {', '.join(names)}" if names else None


def _explicit(path: Path, version: str | None) -> Binary:
    server, is_version = probe(path)
    binary = Binary(path.absolute(), server, is_version, "path")
    if not binary.fits(server, version):
        raise ServerNotFound(
            f"{path} is {server} {is_version}, and version {version} is wanted", hint="correct the path or the version"
        )
    return binary


def _from_environment() -> Iterator[Binary]:
    for name, value in sorted(os.environ.items()):
        matched = re.fullmatch(ENVIRONMENT + r"(VALKEY|REDIS)((?:_\d+)*)", name)
        if matched is None or not value:
            continue
        server, version = matched[1].lower(), matched[2].lstrip("_").replace("_", ".") or None
        try:
            is_server, is_version = probe(Path(value).expanduser())
        except ServerNotFound as error:
            raise ServerNotFound(error.what, where=name, hint=f"correct or unset {name}") from None
        binary = Binary(Path(value).expanduser().absolute(), is_server, is_version, name)
        if not binary.fits(cast(Server, server), version):
            raise ServerNotFound(
                f"{value} is {is_server} {is_version}, not {server} {version or ''}".rstrip(),
                where=name,
                hint=f"correct or unset {name}",
            )
        yield binary


def _from_cache() -> Iterator[Binary]:
    for record in sorted((cache_folder() / "servers").glob(f"[!.]*/{RECORD}")):
        if binary := cached(record.parent):
            yield binary


def cached(folder: Path) -> Binary | None:
    """The binary of one folder of the cache; None where it is absent, incomplete or not as it was installed."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        path = folder / record["binary"]
        if path.stat().st_size != record["size"] or not os.access(path, os.X_OK):
            return None
        return Binary(path, record["server"], record["version"], "cache")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_path() -> Iterator[Binary]:
    seen: set[Path] = set()
    for folder in os.get_exec_path():
        for server in SERVERS:
            path = Path(folder or os.curdir, f"{server}-server").absolute()
            if not path.is_file() or not os.access(path, os.X_OK) or path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                yield Binary(path, *probe(path), "PATH")
            except ServerNotFound:
                continue  # something else of that name: a scenario that wants it is told that nothing was found


def _not_found(server: Server, version: str | None) -> ServerNotFound:
    wanted = f"{server} {version}" if version else server
    there = ", ".join(f"{binary.server} {binary.version} ({binary.source})" for binary in available())
    installable = [name for name in NAMES if f"{name}.".startswith(f"{server}-{version}." if version else f"{server}-")]
    variable = ENVIRONMENT + server.upper() + ("_" + version.replace(".", "_") if version else "")
    if installable:
        hint = f"run `celery-chaos servers install {installable[0]}`, or set {variable} to a {server}-server"
    else:
        hint = f"set {variable} to a {server}-server; `celery-chaos servers install` has {', '.join(NAMES)}"
    return ServerNotFound(f"no {wanted} server was found; there is {there or 'none at all'}", hint=hint)
