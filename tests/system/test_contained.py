"""What the harness does about an engine that does not do what it was told, where a real one seldom does."""

from __future__ import annotations

import pytest
from docker.errors import APIError

from pytest_celery_chaos.system import contained
from pytest_celery_chaos.system.contained import freeze

#: As dockerd 20.10 with runc 1.1.5 says it, on cgroup v1.
UNABLE = "Cannot pause container 79e8f0: OCI runtime pause failed: unable to freeze: unknown"


class Engine:
    """A container of an engine that refuses to pause it so many times."""

    def __init__(self, refusals: int, why: str) -> None:
        self.asked, self._refusals, self._why = 0, refusals, why

    def pause(self) -> None:
        self.asked += 1
        if self.asked <= self._refusals:
            raise APIError("500 Server Error", explanation=self._why)


def test_a_container_that_did_not_freeze_is_paused_again() -> None:
    engine = Engine(3, UNABLE)
    freeze(engine)
    assert engine.asked == 4


def test_another_error_is_one_at_once() -> None:
    engine = Engine(1, "Container 79e8f0 is already paused")
    with pytest.raises(APIError):
        freeze(engine)
    assert engine.asked == 1


def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained, "_FROZEN_WITHIN", 0.05)
    with pytest.raises(APIError, match="unable to freeze"):
        freeze(Engine(10**9, UNABLE))
