"""Who waits in BRPOP is told apart by both ports of a connection: one of them alone may be that of several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_celery_chaos.engine.ready import Readiness
from pytest_celery_chaos.history.event import Event

#: Of two servers, and of a link to the first.
FIRST, SECOND, LINK = 7001, 7002, 7003


class Looked(Readiness):
    """Readiness with one worker, whose BRPOP connection begins at port 5000, and servers that say who waits.

    :param to: where that connection leads.
    :param waiting: of each server the ports from which somebody waits in BRPOP.
    """

    def __init__(self, to: int, waiting: dict[int, list[int]], ends: dict[tuple[int, int], str]) -> None:
        own = {"address": "127.0.0.1:5000", "peer": f"127.0.0.1:{to}"}
        consuming = Event(1, "worker:a", "consuming", None, None, 10, 1, None, own)
        ports = {"main": FIRST, "other": SECOND}
        super().__init__(
            SimpleNamespace(of=lambda _: [consuming]),  # type: ignore[arg-type]
            lambda name, _: Said(waiting.get(ports[name], [])),  # type: ignore[arg-type, return-value]
            {name: SimpleNamespace(broker=name) for name in ports},  # type: ignore[misc]
            lambda: ends,
            port=ports.__getitem__,
        )

    def is_busy(self) -> bool:
        worker: Any = SimpleNamespace(name="a", source="worker:a", alive=True, child=SimpleNamespace(pid=10))
        return bool(self.busy([worker]))


class Said:
    """A server's CLIENT LIST."""

    def __init__(self, waiting: list[int]) -> None:
        self._waiting = waiting

    def client_list(self) -> list[dict[str, str]]:
        return [{"addr": f"127.0.0.1:{port}", "cmd": "brpop", "flags": "b"} for port in self._waiting]


@pytest.mark.parametrize("order", [1, -1])
def test_a_worker_is_not_called_by_a_link_that_another_process_reaches_from_the_same_port(order: int) -> None:
    ends = {(5000, LINK): "a-broker-1", (6000, FIRST): "a-broker-1", (5000, 7004): "main-backend-2"}
    assert not Looked(LINK, {FIRST: [6000]}, dict([*ends.items()][::order])).is_busy()
    assert Looked(LINK, {FIRST: [6001]}, ends).is_busy()


def test_nor_does_it_wait_where_another_waits_on_another_server_from_the_same_port() -> None:
    assert not Looked(FIRST, {FIRST: [5000]}, {}).is_busy()
    assert Looked(FIRST, {SECOND: [5000]}, {}).is_busy()
