"""Several applications and clients in one run: each reaches its own database, and all are looked at and judged."""

from __future__ import annotations

import os
from pathlib import Path

from live import Ran, Runs

from pytest_celery_chaos.history.event import Event

TWO = (
    "apps: {shop: {db: 2, result_db: 3, config: {broker_transport_options: {global_keyprefix: 's:'}}}}\n"
    "clients: {main: {}, web: {app: shop}}\nworkers: {a: {}, b: {app: shop, start: false}}\n"
)


INSIDE = Path(__file__).parent / "inside"


def snapshot(ran: Ran, name: str) -> Event:
    return next(event for event in ran.history.of("snapshot") if event.attrs["name"] == name)


def test_each_application_has_a_database_and_a_prefix_of_its_own(runs: Runs) -> None:
    ran = runs(
        f"{TWO}steps:\n- send: {{task: count, times: 3, client: web}}\n  name: theirs\n"
        "- send: {task: count}\n  name: ours\n"
        "- wait: {at: succeeded, task: ours}\n- snapshot:\n  name: between\n- start: {worker: b}\n"
        "expect: [executions: {task: theirs, exactly: 1}]"
    )
    assert ran.verdict.value == "holds", ran
    between = snapshot(ran, "between").attrs
    assert between["queues"]["celery"] == []
    assert sorted(between["queues"]["shop:celery"]) == sorted(ran.history.ids("theirs"))
    assert {"celery", "shop:celery"} <= between["bindings"].keys()
    assert {event.source for event in ran.history.of("started", task="theirs")} == {"worker:b"}
    assert {event.source for event in ran.history.of("started", task="ours")} == {"worker:a"}
    assert len(snapshot(ran, "end").attrs["results"]) == 4
    (run,) = ran.history.of("run")
    assert run.attrs["spaces"] == {
        "client:main": "main/0",
        "client:web": "main/2/s:",
        "worker:a": "main/0",
        "worker:b": "main/2/s:",
    }


def test_what_lies_in_another_database_keeps_the_run_from_being_quiet(runs: Runs) -> None:
    ran = runs(f"{TWO}quiet: 2s\nsteps:\n- send: {{task: count, client: web}}\n- send: count\n")
    assert ran.of("exercised").outcome == "inconclusive", ran
    assert "shop:celery" in ran.of("exercised").why


def test_applications_may_use_two_servers(runs: Runs) -> None:
    ran = runs(
        "backend: {}\napps: {shop: {broker: backend, backend: main, result_db: 5}}\n"
        "clients: {main: {}, web: {app: shop}}\nworkers: {a: {}, b: {app: shop}}\n"
        "steps:\n- send: {task: count, client: web}\n  name: theirs\n- send: {task: count}\n  name: ours\n"
        "- get: {task: theirs, client: web}\n- get: {task: ours}\n"
    )
    assert ran.verdict.value == "holds", ran
    assert {event.source for event in ran.history.of("started", task="theirs")} == {"worker:b"}
    assert {event.phase for event in ran.history.of("get")} == {"invoke", "ok"}


def test_a_client_that_is_killed_in_a_publish_fails_no_step_and_may_start_again(runs: Runs) -> None:
    ran = runs(
        "clients: {web: {}, other: {}}\nworkers: {a: {}}\nsteps:\n"
        "- kill: {client: web}\n  when: {before: publish, task: first}\n  name: death\n"
        "- send: {task: count, times: 5}\n  name: first\n- wait: {at: offline, client: web}\n"
        "- send: {task: count, client: other}\n  name: second\n- start: {client: web}\n- send: count\n  name: third\n"
    )
    assert ran.verdict.value == "holds", ran
    assert [event.phase for event in ran.history.of("publish", task="first")] == ["invoke"]
    assert {event.source for event in ran.history.of("publish", task="second")} == {"client:other"}
    assert {event.source for event in ran.history.of("publish", task="third")} == {"client:web"}
    assert len(ran.events("client:web", "hello")) == 2


def test_a_paused_client_goes_on_when_it_is_resumed(runs: Runs) -> None:
    ran = runs(
        "workers: {a: {}}\nsteps:\n- pause: {client: main}\n  for: 500ms\n  name: frost\n- send: count\n  name: job\n"
        "- get: {task: job}\nexpect: [executions: {task: job, exactly: 1}]"
    )
    assert ran.verdict.value == "holds", ran
    (heal,) = ran.history.of("heal", "invoke")
    (publish,) = ran.history.of("publish", "invoke")
    assert heal.t < publish.t  # by its ok, which comes when the client is seen to run, it may have published


def test_workers_that_use_unix_sockets_fall_quiet(runs: Runs) -> None:
    ran = runs("broker: {socket: true}\nworkers: {a: {}, b: {}}\nsteps: [send: {task: count, times: 4}]\n")
    assert ran.verdict.value == "holds", ran


def test_prefixes_that_an_application_sets_by_itself_are_known_from_its_workers(runs: Runs) -> None:
    path = os.pathsep.join([str(INSIDE), os.environ.get("PYTHONPATH", "")])
    env = f"env: {{PYTHONPATH: '{path}'}}"
    ran = runs(
        f"app: prefixed:app\nclients: {{main: {{{env}}}}}\nworkers: {{a: {{{env}}}}}\nsteps:\n"
        "- send: prefixed.one\n  name: first\n- wait: {at: succeeded, task: first}\n- stop: {worker: a}\n"
        "- send: prefixed.one\n  name: second\n- snapshot:\n  name: between\n- start: {worker: a}\n"
        "expect: [completed: {task: second}, foreign_keys: ]\n"
    )
    assert ran.verdict.value == "holds", ran
    between = snapshot(ran, "between").attrs
    assert between["queues"]["celery"] == list(ran.history.ids("second"))
    assert list(between["results"]) == list(ran.history.ids("first"))
