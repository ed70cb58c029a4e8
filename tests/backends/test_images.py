"""Images that a setting puts in the place of those that scenarios name or take by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from extras import engine_needed

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.plugin import images_of
from pytest_celery_chaos.system.engine import connect
from pytest_celery_chaos.workers.spec import WorkerSpec

OFFICIAL = "redis:8.0"
HARDENED = "registry.example:5000/hardened/redis:8.0-1"


@pytest.fixture
def hardened() -> Iterator[str]:
    engine_needed(OFFICIAL)
    client = connect().client
    client.images.get(OFFICIAL).tag(HARDENED)
    yield HARDENED
    client.images.remove(HARDENED)
    client.close()


def test_a_servers_image_is_the_one_of_the_setting(hardened: str, tmp_path: Path) -> None:
    session = Session(tmp_path, provider="container", images={OFFICIAL: hardened})
    specs = {"version": BrokerSpec(server="redis", version="8.0"), "image": BrokerSpec(server="redis", image=OFFICIAL)}
    for name, spec in specs.items():
        server = session.provide(spec, tmp_path / name, tmp_path / f"{name}.log")
        assert server.version == "8.0"  # of the image's tag, which is not its registry's port
        server.start()
        assert server.about["image"] == hardened
        server.close()
    session.close()


def test_a_workers_image_is_the_one_of_the_setting(tmp_path: Path) -> None:
    engine_needed()
    session = Session(tmp_path, provider="container", images={"celery-chaos/worker:5.7": "ours:5.7"})
    named = [session.contain(WorkerSpec("a", celery=celery), [], tmp_path) for celery in ("5.7", "5.5")]
    assert [each and each.image for each in named] == ["ours:5.7", "celery-chaos/worker:5.5"]
    session.close()


@pytest.mark.parametrize("line", ["redis:8.0", "= other", "redis:8.0 ="])
def test_a_line_that_names_no_two_images_is_refused(line: str) -> None:
    with pytest.raises(pytest.UsageError, match="write NAME = OTHER"):
        images_of(Ini([line]))  # type: ignore[arg-type]
    assert images_of(Ini(["redis:8.0 = other:1"])) == {"redis:8.0": "other:1"}  # type: ignore[arg-type]


class Ini:
    """A configuration that says one thing."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def getini(self, name: str) -> Sequence[str]:
        return {"chaos_images": self._lines}[name]
