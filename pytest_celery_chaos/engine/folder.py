"""The folder of one run: what is in it, and which folders are kept.

``run.json`` says how far the run came: *running* until the verdict stands, *interrupted* when the process died
before (the keeper writes that), *finished* otherwise.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_celery_chaos.errors import UsageError

_IGNORE = "# Runs of pytest-celery-chaos: histories, verdicts and logs. Safe to delete.\n*\n"


class RunFolder:
    """Made new for every run under the store.

    :param begun: told of the folder before it is made: who is killed in between cannot mark it any more.
    """

    def __init__(
        self, store: Path, scenario: str, variant: str | None, begun: Callable[[Path], None] = lambda folder: None
    ) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        words = re.sub(r"[^a-z0-9]+", "-", f"{scenario} {variant or ''}".lower()).strip("-")[:60].strip("-")
        self.id = f"{stamp}-{words}-{secrets.token_hex(3)}"
        self.path = store / self.id
        begun(self.path)
        for part in ("ledgers", "logs"):
            (self.path / part).mkdir(parents=True)
        ignore = store / ".gitignore"
        if not ignore.exists():
            ignore.write_text(_IGNORE)
        self._about = {"id": self.id, "scenario": scenario, "variant": variant, "started": time.time()}
        self._status("running")

    @property
    def ledgers(self) -> Path:
        return self.path / "ledgers"

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Store *record* as JSON, whole or not at all."""
        path = self.path / name
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(record, indent=1, default=str))
        beside.replace(path)

    def finish(self, verdict: Mapping[str, Any]) -> None:
        """Store the verdict: the run is finished."""
        self.write("verdict.json", verdict)
        self._status("finished")

    def _status(self, status: str) -> None:
        self.write("run.json", {**self._about, "status": status})


def retained(rule: str) -> int | None:
    """How many finished runs *rule* keeps whatever came of them; None: all of them.

    :raises UsageError: it is none of ``all``, ``failed`` and ``last:N``.
    """
    if rule in ("all", "failed"):
        return None if rule == "all" else 0
    word, _, number = rule.partition(":")
    if word != "last" or not number.isdecimal():
        raise UsageError(f"chaos_retention is {rule!r}", hint="write all, failed, or last:200")
    return int(number)


def retain(store: Path, rule: str) -> None:
    """Delete finished runs by *rule*: ``all`` keeps them all, ``failed`` those not as recorded, ``last:N`` N of them.

    Runs that have not finished are never touched: they may be another process's.
    """
    number = retained(rule)
    if number is None or not store.is_dir():
        return
    finished = []
    for folder in sorted(store.iterdir()):
        try:
            about = json.loads((folder / "run.json").read_text())
            verdict = json.loads((folder / "verdict.json").read_text())
        except (OSError, ValueError):
            continue
        if about.get("status") == "finished":
            finished.append((folder, bool(verdict.get("as_recorded"))))
    if rule == "failed":
        doomed = [folder for folder, as_recorded in finished if as_recorded]
    else:
        doomed = [folder for folder, _ in finished[: max(0, len(finished) - number)]]
    for folder in doomed:
        shutil.rmtree(folder, ignore_errors=True)
