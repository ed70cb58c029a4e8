"""Tasks through a real worker, on both clients alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError

from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone
from pytest_celery_chaos.system import wait
from pytest_celery_chaos.system.keeper import Child, Keeper
from pytest_celery_chaos.system.sockets import owners

from .conftest import address
from .worker import start

#: What the worker and its clients say in both sets of transport options.
OPTIONS = {"plain": {}, "prefixed-unordered": {"global_keyprefix": "shop:", "result_chord_ordered": False}}


@pytest.fixture(scope="module", params=OPTIONS)
def worker(
    request: pytest.FixtureRequest,
    running: LocalServer,
    scheme: str,
    keeper: Keeper,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Child, dict[str, Any]]]:
    running.client(0).flushall()
    options: dict[str, Any] = OPTIONS[request.param]
    settings = {
        "broker_url": address(running, scheme),
        "result_backend": address(running, scheme, 1),
        "broker_transport_options": options,
        "result_backend_transport_options": options,
        "result_extended": True,
    }
    folder = tmp_path_factory.mktemp("worker")
    child = start(keeper, settings, folder, server=running)
    yield child, settings
    keeper.end(child)


@pytest.fixture
def shop(worker: tuple[Child, dict[str, Any]]) -> Iterator[Any]:
    app = Celery("client", set_as_current=False)
    app.conf.update(worker[1])

    def task(name: str, *args: Any, **options: Any) -> Any:
        return app.signature(f"shop.{name}", args=args, **options)

    task.app = app  # type: ignore[attr-defined]
    yield task
    leave_results_alone(app.backend)
    app.close()


def test_a_result_comes_back(shop: Any) -> None:
    assert shop("add", 1, 2).delay().get(timeout=10) == 3


def test_an_error_comes_back(shop: Any) -> None:
    with pytest.raises(ValueError, match="no stock"):
        shop("fail").delay().get(timeout=10)


def test_a_late_acknowledged_task_is_retried_and_leaves_nothing(shop: Any, running: LocalServer, worker: Any) -> None:
    assert shop("retried").delay().get(timeout=10) == 1
    prefix = worker[1]["broker_transport_options"].get("global_keyprefix", "")
    keys = running.client(0)
    wait.until(lambda: not keys.hlen(f"{prefix}unacked"), what="the acknowledgement", timeout=5)


def test_a_group_keeps_its_order(shop: Any) -> None:
    result = group(shop("late", n, 0.05 * (3 - n)) for n in range(4)).apply_async()
    assert result.get(timeout=10) == [0, 1, 2, 3]


def test_a_chain_passes_on(shop: Any) -> None:
    assert chain(shop("add", 1, 2), shop("add", 10), shop("add", 100)).apply_async().get(timeout=10) == 113


@pytest.mark.parametrize("n", [2, 20])
def test_a_chord_joins_in_order(shop: Any, worker: Any, n: int) -> None:
    header = [shop("late", each, 0.02 * (each % 3)) for each in range(n)]
    found = chord(header, shop("collect")).apply_async().get(timeout=20)
    ordered = worker[1]["result_backend_transport_options"].get("result_chord_ordered", True)
    assert (found if ordered else sorted(found)) == list(range(n))


def test_a_chord_of_chains_and_groups_joins_what_they_return(shop: Any) -> None:
    ends_in_a_group = chain(shop("add", 1, 1), group(shop("add", 1), shop("add", 2)))
    found = chord([ends_in_a_group, shop("add", 5, 5)], shop("collect")).apply_async().get(timeout=20)
    assert [sorted(each) if isinstance(each, list) else each for each in found] == [[3, 4], 10]


def test_a_chord_with_a_part_that_fails_fails(shop: Any) -> None:
    result = chord([shop("add", 1, 1), shop("fail")], shop("total")).apply_async()
    found = result.get(timeout=10, propagate=False)
    assert isinstance(found, ChordError)
    assert "no stock" in str(found)


def test_a_chord_leaves_no_key_of_its_parts(shop: Any, running: LocalServer) -> None:
    result = chord([shop("add", 1, 1), shop("add", 2, 2)], shop("total")).apply_async()
    group_id = result.parent.id
    assert result.get(timeout=10) == 6

    def parts() -> list[bytes]:
        return [key for end in "jtsd" for key in running.client(1).keys(f"*{group_id}.{end}")]

    wait.until(lambda: not parts(), what="the parts to go", timeout=5, last=lambda: str(parts()))


def test_remote_control_is_answered(shop: Any) -> None:
    (answer,) = shop.app.control.ping(timeout=5, limit=1)
    assert list(answer.values()) == [{"ok": "pong"}]


def test_a_task_that_is_revoked_does_not_run(shop: Any) -> None:
    result = shop("add", 1, 1).apply_async(countdown=1)
    shop.app.control.revoke(result.id, reply=True, timeout=5, limit=1)
    result.revoke()
    wait.until(lambda: result.state == "REVOKED", what="the revoke", timeout=10, last=lambda: str(result.state))


def test_a_worker_whose_connections_are_cut_goes_on(shop: Any, running: LocalServer) -> None:
    client: Any = running.client(0)
    ours = owners(running.port, {os.getpid(): "this process"})
    cut = [each["addr"] for each in client.client_list() if int(each["addr"].rpartition(":")[2]) not in ours]
    assert len(cut) >= 2  # of BRPOP and of broadcasts
    for its in cut:
        client.client_kill_filter(addr=its)
    assert shop("add", 1, 2).delay().get(timeout=20) == 3
    # Nothing keeps what is broadcast while it does not yet listen again.
    wait.until(lambda: shop.app.control.ping(timeout=1, limit=1), what="remote control", timeout=20)


def test_the_worker_opens_connections_of_its_own_client_alone(shop: Any, scheme: str) -> None:
    made = shop("connections").delay().get(timeout=10)
    assert [name for name, n in made.items() if n] == [scheme]
