"""Sentinel: three nodes that watch a server and its replica, and what happens when the server dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, states
from kombu import Connection

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.system import ports, wait
from pytest_celery_chaos.system.keeper import Keeper

from .test_transport import payloads, publish, take

NODE = """
bind 127.0.0.1
port {port}
dir {folder}
sentinel monitor shop 127.0.0.1 {master} 2
sentinel down-after-milliseconds shop 500
sentinel failover-timeout shop 3000
"""


class Watched:
    """A server, its replica and the nodes."""

    def __init__(self, launch: Callable[..., LocalServer], keeper: Keeper, folder: Path) -> None:
        self.first = launch(**{"repl-diskless-sync-delay": "0"})
        self.second = launch(replicaof=f"127.0.0.1 {self.first.port}")
        self.nodes: list[int] = []
        self._keeper, self._children = keeper, []
        for n in range(3):
            port, home = ports.free_port(), folder / str(n)
            home.mkdir()
            config = home / "sentinel.conf"
            config.write_text(NODE.format(port=port, folder=home, master=self.first.port))
            command = [str(self.first.binary.path), str(config), "--sentinel"]
            self._children.append(keeper.spawn(f"sentinel-{n}", command, env=os.environ, cwd=home, log=home / "log"))
            self.nodes.append(port)
        wait.until(self._agreed, what="the nodes to know each other", timeout=20)

    def _agreed(self) -> bool:
        try:
            states = [
                redis.Redis(port=port, client_name="celery-chaos").sentinel_masters()["shop"] for port in self.nodes
            ]
        except redis.exceptions.RedisError:
            return False
        synchronised = self.second.client(0).info("replication").get("master_link_status") == "up"
        return synchronised and all(each["num-other-sentinels"] == 2 and each["num-slaves"] == 1 for each in states)

    def address(self, *schemes: str, db: int = 0) -> str:
        names = (*schemes, *[schemes[-1]] * (3 - len(schemes)))
        return ";".join(f"{name}://127.0.0.1:{port}/{db}" for name, port in zip(names, self.nodes, strict=True))

    def promoted(self) -> bool:
        """Whether every node says so; until then a client may be told of the one that is dead."""
        known = [redis.Redis(port=port, client_name="celery-chaos").sentinel_masters()["shop"] for port in self.nodes]
        return all(each["port"] == self.second.port and not each["is_sdown"] for each in known)

    def close(self) -> None:
        for child, port in zip(self._children, self.nodes, strict=True):
            self._keeper.end(child)
            ports.release_port(port)


@pytest.fixture
def watched(launch: Callable[..., LocalServer], keeper: Keeper, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(launch, keeper, tmp_path)
    yield watched
    watched.close()


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
