"""A run's folder: ``run.json``, ``plan.json``, ``ledgers/`` while it runs, then ``history.ndjson`` and a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_celery_chaos.errors import StoredRunError
from pytest_celery_chaos.history.collector import uncollected
from pytest_celery_chaos.history.event import Event
from pytest_celery_chaos.history.lines import Parser, read
from pytest_celery_chaos.history.log import ORDER, VERSION, Header, History

HISTORY, LEDGERS, PLAN, RUN, VERDICT = "history.ndjson", "ledgers", "plan.json", "run.json", "verdict.json"
_NEXT = "name the folder of a run, as `celery-chaos run` prints it"


@dataclass(frozen=True)
class StoredRun:
    """What a run left behind.

    :param info: ``run.json``: id, status (running, finished, interrupted), scenario, variant.
    :param plan: ``plan.json``, as the plan's ``to_record`` gave it.
    """

    folder: Path
    info: dict[str, Any]
    plan: dict[str, Any]
    history: History


def load_run(folder: Path | str) -> StoredRun:
    """Read a run's folder, finished or interrupted.

    :raises StoredRunError: if it is not one, or a file of it cannot be read.
    """
    folder = Path(folder)
    return StoredRun(folder, load_info(folder), _object(folder / PLAN), load_history(folder))


def load_info(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says of a run, also of one that was killed before it had written more.

    :raises StoredRunError: if it is not the folder of a run.
    """
    return _object(folder / RUN)


def load_history(path: Path) -> History:
    """The history of a run's folder (from its ledgers if it has nothing else), or of one file."""
    with uncollected():
        if path.is_dir() and not (path / HISTORY).exists():
            events, header = read_ledgers(path / LEDGERS)
            return History(events, header)
        return _load_file(path / HISTORY if path.is_dir() else path)


def read_ledgers(folder: Path) -> tuple[list[Event], Header]:
    """All events of the ledgers of an unfinished run, not sorted, and the header that its history would have."""
    files = sorted(folder.glob("*.ndjson"))
    if not files:
        raise StoredRunError("no history and no ledgers here", where=str(folder), hint=_NEXT)
    parser, events = Parser(), list[Event]()
    torn, broken = list[str](), list[str]()
    for file in files:
        for more, bad, tail in read(file, parser):
            events += more
            broken += [f"{file.name}:{line}" for line in bad]
            torn += [file.stem] if tail else []
    return events, _header(events, torn, broken)


def _header(events: list[Event], torn: list[str], broken: list[str]) -> Header:
    first = min((e for e in events if e.kind == "hello"), key=ORDER, default=None)
    run = next((str(e.attrs.get("id", "")) for e in events if e.kind == "run"), "")
    if first is None:
        return Header(run, min((e.t for e in events), default=0), 0, torn, broken)
    wall = first.attrs.get("realtime", 0) - first.attrs.get("monotonic", first.t) + first.t
    return Header(run, first.t, wall, torn, broken)


def _load_file(path: Path) -> History:
    if not path.is_file():
        raise StoredRunError("no history here", where=str(path), hint=_NEXT)
    with path.open("rb") as file:
        header = _parse_header(file.readline(), path)
    events, broken = list[Event](), list(header.broken)
    for more, bad, tail in read(path, Parser(), skip=1):
        events += more
        broken += [f"{path.name}:{line}" for line in bad]
        broken += [f"{path.name}: the last line"] if tail else []
    return History(events, Header(header.run, header.monotonic, header.realtime, header.torn, broken))


def _parse_header(line: bytes, path: Path) -> Header:
    try:
        record = json.loads(line)
        version = record["history"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoredRunError("the first line is not the header of a history", where=f"{path}:1", hint=_NEXT) from error
    if version != VERSION:
        hint = "read it with the release of pytest-celery-chaos that wrote it"
        raise StoredRunError(
            f"history of version {version!r}; this release reads {VERSION}", where=f"{path}:1", hint=hint
        )
    try:
        monotonic, realtime = int(record.get("monotonic", 0)), int(record.get("realtime", 0))
        torn, broken = [str(x) for x in record.get("torn", ())], [str(x) for x in record.get("broken", ())]
    except (ValueError, TypeError) as error:
        raise StoredRunError("the header of the history is damaged", where=f"{path}:1", hint=_NEXT) from error
    return Header(str(record.get("run", "")), monotonic, realtime, torn, broken)


def write_history(folder: Path, header: Header | None = None, *, keep_ledgers: bool = False) -> History:
    """Merge the ledgers of a run's folder into its ``history.ndjson``, and remove them. Returns the history.

    The file appears whole or not at all: whoever is killed here leaves the ledgers.

    :param header: None: made from the first hello.
    :param keep_ledgers: leave the ledgers: their processes live on and write on.
    """
    with uncollected():
        events, made = read_ledgers(folder / LEDGERS)
        if header is not None:
            made = Header(header.run, header.monotonic, header.realtime, made.torn, made.broken)
        history = History(events, made)
    part = folder / f".{HISTORY}.part"
    with part.open("w", encoding="utf-8") as file:
        file.writelines(_lines(history))
    part.replace(folder / HISTORY)
    if keep_ledgers:
        return history
    for ledger in (folder / LEDGERS).glob("*.ndjson"):
        ledger.unlink()
    (folder / LEDGERS).rmdir()
    return history


def _lines(history: History) -> Iterator[str]:
    yield json.dumps(history.header.to_record(), separators=(",", ":")) + "\n"
    for event in history.events:
        yield event.to_line() + "\n"


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise StoredRunError(f"not the folder of a run: {error.strerror}", where=str(path), hint=_NEXT) from error
    except (ValueError, RecursionError) as error:
        raise StoredRunError(f"damaged: {error}", where=str(path), hint="run the scenario again") from error
    if not isinstance(found, dict):
        raise StoredRunError("damaged: not an object", where=str(path), hint="run the scenario again")
    return found
