"""Sentinel: three nodes that watch a server and its replica, and what happens when the server dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, states
from extras import server_needed
from kombu import Connection

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.brokers.replicated import Replicated
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Keeper

from .test_transport import payloads, publish, take


class Watched:
    """A server, its replica and the nodes."""

    def __init__(self, make: Callable[[BrokerSpec], LocalServer]) -> None:
        spec = BrokerSpec("shop", server="valkey", topology="sentinel", replicas=1, down_after=0.5)
        self._several = Replicated(spec, make)
        self._several.configure()
        self.first, self.second = self._several.servers.values()
        for server in (self.first, self.second, *self._several.sentinels.values()):
            server.start()
        self._several.await_ready()
        self.nodes = [sentinel.port for sentinel in self._several.sentinels.values()]

    def address(self, *schemes: str, db: int = 0) -> str:
        names = (*schemes, *[schemes[-1]] * (3 - len(schemes)))
        return ";".join(f"{name}://127.0.0.1:{port}/{db}" for name, port in zip(names, self.nodes, strict=True))

    def promoted(self) -> bool:
        """Whether every node says so; until then a client may be told of the one that is dead."""
        return self._several.learn() > -1 and self._several.primary is self.second


@pytest.fixture
def watched(keeper: Keeper, tmp_path: Path) -> Iterator[Watched]:
    made: list[LocalServer] = []

    def make(spec: BrokerSpec) -> LocalServer:
        with server_needed():
            made.append(LocalServer(spec, keeper, tmp_path / spec.name, tmp_path / f"{spec.name}.log"))
        return made[-1]

    yield Watched(make)
    for server in made:
        server.close()


OPTIONS: dict[str, Any] = {"master_name": "shop", "sentinel_kwargs": {"socket_timeout": 2.0}}


def sentinel(scheme: str) -> str:
    return {"redis": "sentinel", "valkey": "valkeysentinel"}[scheme]


@pytest.mark.parametrize("mixed", [False, True], ids=["one-spelling", "mixed"])
def test_messages_and_results_follow_the_server_that_is_promoted(scheme: str, mixed: bool, watched: Watched) -> None:
    spellings = (sentinel(scheme), "sentinel") if mixed else (sentinel(scheme),)
    connection = Connection(watched.address(*spellings), transport_options=OPTIONS)
    app = Celery("shop", backend=watched.address(*spellings, db=1), set_as_current=False)
    app.conf.result_backend_transport_options = OPTIONS
    publish(connection, "before")
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert watched.first.client(0).llen("orders") == 1
    assert watched.first.client(1).exists("celery-task-meta-t1")
    wait.until(lambda: watched.second.client(0).llen("orders"), what="the replica to have it", timeout=5)

    watched.first.kill()
    wait.until(watched.promoted, what="the promotion", timeout=30)
    connection.ensure(connection, lambda: publish(connection, "after"), max_retries=5)()  # as Celery publishes
    app.backend.set("key", "after")
    assert watched.second.client(1).get("key") == b"after"
    assert payloads(take(connection, 2)) == ["before", "after"]
    connection.release()
    leave_results_alone(app.backend)


def test_the_name_of_the_server_is_needed(scheme: str) -> None:
    connection = Connection(f"{sentinel(scheme)}://127.0.0.1:1")
    with pytest.raises(ValueError, match="master_name"):
        connection.default_channel.client.ping()


def test_every_address_of_a_mixed_spelling_leads_to_the_same_client(scheme: str, watched: Watched) -> None:
    connection = Connection(watched.address(sentinel(scheme), "sentinel"), transport_options=OPTIONS)
    kinds = set()
    for _ in range(4):
        kinds.add(type(connection.transport))
        connection.maybe_switch_next()
    assert len(kinds) == 1
    assert [each.partition(":")[0] for each in connection.clone().alt] == [sentinel(scheme)] * 3


@pytest.mark.skipif(version("kombu") < "5.7", reason="kombu closes them from 5.7 on")
def test_closing_a_channel_closes_its_connections_to_the_nodes(scheme: str, watched: Watched) -> None:
    connection = Connection(watched.address(sentinel(scheme)), transport_options=OPTIONS)
    publish(connection, "a")

    def left() -> int:
        nodes = [
            redis.Redis(port=port, client_name="celery-chaos").client_list(_type="normal") for port in watched.nodes
        ]
        return sum(each["name"] != "celery-chaos" and "sentinel" not in each["name"] for node in nodes for each in node)

    assert left() > 0
    connection.release()
    wait.until(lambda: left() == 0, what="the connections to the nodes to go", timeout=5, last=lambda: str(left()))
