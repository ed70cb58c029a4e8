"""A ``celery beat`` of an environment: its command line, its settings, and the file that it keeps its schedule in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pytest_celery_chaos.clients.spec import BeatSpec
from pytest_celery_chaos.workers.recorded import Recorded, celery, packages

#: What becomes of the schedule's file before a start: it is kept, lost, cut to half its length (as a crash in the
#: middle of a write leaves it), or empty (as a full disk, or a crash before the data was written, leaves it). Where
#: dbm keeps an index in a file of its own, that one stays.
Data = Literal["keep", "lose", "cut", "empty"]
#: In the environment of a beat: by entry, the beginning of the ids that it publishes.
LABELS: Final = "CELERY_CHAOS_LABELS"


class Beat(Recorded):
    """A beat of the environment.

    :param prefixes: by entry of its schedule, the beginning of the ids that it publishes.
    :param made_with: see :class:`~pytest_celery_chaos.workers.recorded.Recorded`.
    """

    def __init__(self, spec: BeatSpec, *, prefixes: Mapping[str, str], **made_with: Any) -> None:
        env = {**spec.env, LABELS: json.dumps(dict(prefixes))}
        super().__init__("beat", spec.name, env=env, **made_with)
        self.spec = spec

    @property
    def file(self) -> Path:
        """The schedule's file, as ``--schedule`` names it; dbm may add a suffix, and make several."""
        return self._folder / "state" / f"{self.name}.schedule"

    def command_line(self) -> list[str]:
        """The beat's command line, as a user would type it."""
        spec = self.spec
        self.file.parent.mkdir(exist_ok=True)
        line = [
            *celery(spec.celery, self._app, packages(self.settings)),
            "beat",
            "--loglevel",
            "INFO",
            "--schedule",
            str(self.file),
        ]
        if spec.scheduler:
            line += ["--scheduler", spec.scheduler]
        return [*line, *spec.options]

    def treat(self, data: Data) -> None:
        """Do to the schedule's file what *data* says."""
        files = sorted(self.file.parent.glob(f"{self.file.name}*"), key=lambda path: path.stat().st_size)
        if data == "lose":
            for path in files:
                path.unlink()
        elif data != "keep" and files:
            with files[-1].open("r+b") as file:
                file.truncate(files[-1].stat().st_size // 2 if data == "cut" else 0)


def settings_of(spec: BeatSpec) -> dict[str, Any]:
    """The Celery settings that a beat's spec stands for; its own ``config`` goes over them."""
    settings: dict[str, Any] = {}
    if spec.schedule:
        settings["beat_schedule"] = {
            name: {
                "task": entry.task,
                "schedule": entry.every,
                "args": list(entry.args),
                "kwargs": dict(entry.kwargs),
                "options": dict(entry.options),
                "relative": entry.relative,
            }
            for name, entry in spec.schedule.items()
        }
    if spec.max_interval is not None:
        settings["beat_max_loop_interval"] = spec.max_interval
    return settings
