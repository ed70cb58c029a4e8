"""The names of the steps that publish, and the ids that they stand for, known before anything is published."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from pytest_celery_chaos.history.labels import of_part


class Labels:
    """The labels of one run.

    :param known: names of the steps that publish, as far as they are known beforehand.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)
        self._prefixes: dict[str, str] = {}

    def add(self, label: str) -> None:
        self._known.add(label)

    def __contains__(self, name: object) -> bool:
        """Whether *name* is a label, or means a part of what a label stands for (``c.body``)."""
        if not isinstance(name, str):
            return False
        part = of_part(name)
        return name in self._known or (part is not None and part[0] in self._known)

    def prefix_of(self, name: str) -> str:
        """The beginning of the ids that *name* stands for, or will."""
        part = of_part(name)
        if part is not None and name not in self._known:
            return self.prefix_of(part[0]) + part[1]
        return self._prefixes.setdefault(name, f"{uuid.uuid4().hex[:8]}-")
