"""From a file to plans: variants, and what the command line chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_celery_chaos.brokers.keyspace import Keyspace
from pytest_celery_chaos.engine.apps import config_of, keyspace_of, settings_of, spaces, target
from pytest_celery_chaos.engine.plan import Moment, Plan
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario.compile import compile_scenario, plans_of
from pytest_celery_chaos.scenario.discover import discover
from pytest_celery_chaos.scenario.read import scenario_of

GOOD = sorted(Path(__file__).with_name("good").glob("*.chaos.yaml"))
EVERY_PART = Path(__file__).with_name("good") / "every-part.chaos.yaml"


def plans(text: str, **chosen: str) -> list[Plan]:
    return compile_scenario(scenario_of(f"scenario: t\n{text}", "x.chaos.yaml"), **chosen)


@pytest.mark.parametrize("path", [*GOOD, *discover()], ids=lambda path: path.name.partition(".")[0])
def test_a_good_file_gives_plans_that_can_be_stored(path: Path) -> None:
    for plan in plans_of(path):
        assert json.loads(json.dumps(plan.to_record(), allow_nan=False))["scenario"] == plan.scenario


def test_every_part_of_a_file_reaches_the_plan() -> None:
    warm, killed = plans_of(EVERY_PART)
    assert (warm.variant, killed.variant) == ("warm", "killed")
    assert killed.file == str(EVERY_PART)
    assert (killed.broker.version, killed.broker.options, killed.broker.save) == ("9.1", {"hz": "50"}, "1 1")
    assert killed.backend is not None
    assert (killed.backend.name, killed.backend.server, killed.backend.version) == ("backend", "redis", "6.2")
    a, b = killed.workers["a"], killed.workers["b"]
    assert (a.name, a.pool, a.concurrency, a.queues, a.profile) == ("a", "prefork", 2, ["orders"], "fast")
    assert a.env == {"DEBUG": "010", "ANSWER": "no"}
    assert (b.start, b.options) == (False, ["--without-heartbeat"])
    frost, kill, send, revoke, *_ = killed.steps
    assert frost.when == Moment(before="run", task="job", worker="a", nth=1, timeout=20.0)
    assert (frost.name, frost.heal_after, frost.family, frost.index) == ("frost", 2.0, "fault", 1)
    assert frost.place == f"{EVERY_PART}:21:5"
    assert kill.when == Moment(delay=0.5, since="frost")
    assert kill.args["signal"] == "KILL"
    assert (send.name, send.args["countdown"], send.args["kwargs"]) == ("job", 4.0, {"note": "no", "yes": 1})
    assert revoke.args == {"task": "job"}
    assert [step.args["how"] for plan in (warm, killed) for step in plan.steps if step.verb == "stop"] == [
        "warm",
        "kill",
    ]
    assert killed.observe == 12.0
    executions = killed.expect[2]
    assert [hazard.seen for hazard in executions.hazards] == [2.0]
    assert executions.hazards[0].variant == ["killed"]
    assert killed.expect[4].hazards[0].seen == (1.0, 2.0)


def test_a_variable_may_stand_for_a_whole_part() -> None:
    early, late = plans(
        "variants: {early: {s: {}, w: {a: {}}}, late: {s: {task_acks_late: true}, w: {b: {}}}}\n"
        "config: $s\nworkers: $w\nsteps: [send: add]\n"
    )
    assert (early.config, late.config) == ({}, {"task_acks_late": True})
    assert (list(early.workers), list(late.workers)) == (["a"], ["b"])


def test_the_server_chosen_outside_replaces_the_files() -> None:
    broker = "broker: {server: valkey, version: 8.1, path: /x, maxmemory: 1mb}\nbackend: {}\n"
    text = f"{broker}workers: {{a: {{}}}}\nsteps: [send: add]\n"
    (plan,) = plans(text, server="redis-6.2")
    assert (plan.broker.server, plan.broker.version, plan.broker.path) == ("redis", "6.2", None)
    assert plan.broker.maxmemory == "1mb"
    assert plan.backend is not None
    assert (plan.backend.server, plan.backend.version) == ("redis", "6.2")
    assert plan.axes["server"] == "redis-6.2"


def test_a_backend_that_states_its_server_keeps_it() -> None:
    (plan,) = plans("backend: {server: redis}\nworkers: {a: {}}\nsteps: [send: add]\n", server="valkey-9.1")
    assert plan.backend is not None
    assert (plan.broker.server, plan.backend.server) == ("valkey", "redis")


def test_the_pool_chosen_outside_is_for_workers_that_do_not_state_theirs() -> None:
    (plan,) = plans("workers: {a: {}, b: {pool: threads}}\nsteps: [send: add]\n", pool="solo")
    assert (plan.workers["a"].pool, plan.workers["b"].pool) == ("solo", "threads")
    assert plan.axes["pool"] == "solo+threads"
    assert plan.skip is None


def test_a_pool_on_which_the_file_makes_no_sense_skips_it_with_a_reason() -> None:
    text = "pools: [solo, threads]\nworkers: {a: {}}\nsteps: [send: add]\n"
    assert plans(text)[0].workers["a"].pool == "solo"
    assert plans(text, pool="threads")[0].skip is None
    assert plans(text, pool="prefork")[0].skip == "makes sense on solo, threads only, not on prefork"
    stated = "workers: {a: {pool: solo}}\nsteps: [send: add]\n"
    assert plans(stated, pool="prefork")[0].skip == "every worker states its pool (solo): prefork would change nothing"
    assert plans(stated, pool="solo")[0].skip is None


@pytest.mark.parametrize(
    "chosen", [{"server": "mysql"}, {"server": "valkey-"}, {"pool": "gevent"}, {"client": "glide"}]
)
def test_an_unknown_server_or_pool_is_a_usage_error(chosen: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is called"):
        plans("workers: {a: {}}\nsteps: [send: add]\n", **chosen)


def test_a_mistake_in_two_variants_is_told_once_and_one_in_one_variant_names_its_variable() -> None:
    with pytest.raises(UsageError) as caught:
        plans("variants: {x: {h: warm}, y: {h: wram}}\nworkers: {a: {}}\nsteps:\n- stop: {worker: b, how: $h}\n")
    assert str(caught.value).count("no worker is called 'b'") == 1
    assert "not 'wram' (from $h)" in str(caught.value)


def test_the_client_library_reaches_every_address() -> None:
    said = "apps: {old: {client: redis}}\nworkers: {a: {}}\nsteps: [send: add]\n"

    def brokers(plan: Plan, url: str) -> list[str]:
        return [settings_of(plan, name, {}, lambda *_: url)["broker_url"] for name in ("main", "old")]

    assert brokers(plans(said)[0], "redis://x/0") == ["redis://x/0"] * 2
    for (plan,) in (plans(f"client: valkey\n{said}"), plans(said, client="valkey")):
        assert plan.axes["client"] == "valkey"
        assert brokers(plan, "redis://x/0") == ["valkey://x/0", "redis://x/0"]
        assert brokers(plan, "redis+socket:///x.sock")[0] == "valkey+socket:///x.sock"


def test_apps_and_clients_reach_the_plan_each_with_a_keyspace_of_its_own() -> None:
    (plan,) = plans(
        "config: {task_acks_late: true, broker_transport_options: {visibility_timeout: 3}}\n"
        "apps: {shop: {app: 'proj.celery:app', db: 2, result_db: 3,\n"
        "  config: {broker_transport_options: {global_keyprefix: 's:'}}}}\n"
        "clients: {web: {app: shop}, api: {}}\nworkers: {a: {app: shop}}\nsteps: [send: add]\n"
    )
    assert list(plan.clients) == ["web", "api"]
    assert (target(plan, "shop"), target(plan, "main")) == ("proj.celery:app", "builtin")
    assert config_of(plan, "shop", {})["broker_transport_options"] == {
        "visibility_timeout": 3,
        "global_keyprefix": "s:",
    }
    shop, main = Keyspace("shop", db=2, prefix="s:", result_db=3), Keyspace("main")
    assert spaces(plan) == {"client:api": main, "client:web": shop, "worker:a": shop}
    assert next(iter(spaces(plan).values())) == main  # its queues bear their names alone
    assert settings_of(plan, "shop", {}, lambda end, name, db: f"redis://{name}/{db}") == {
        "broker_url": "redis://main/2",
        "result_backend": "redis://main/3",
        **config_of(plan, "shop", {}),
    }


def test_without_apps_and_clients_there_is_one_of_each() -> None:
    (plan,) = plans("workers: {a: {}}\nsteps: [send: add]\n")
    assert spaces(plan) == {"client:main": Keyspace("main"), "worker:a": Keyspace("main")}


def test_a_server_for_results_holds_them_in_its_database_0_unless_told_otherwise() -> None:
    apps = "apps: {b: {result_db: 5}, c: {broker: backend}, d: {backend: main}}\n"
    (plan,) = plans(f"backend: {{}}\n{apps}workers: {{a: {{}}}}\nsteps: [send: add]\n")
    found = {name: keyspace_of(plan, name, {}) for name in ("main", "b", "c", "d")}
    assert {name: (each.broker, each.backend, each.result_db) for name, each in found.items()} == {
        "main": ("main", "backend", 0),
        "b": ("main", "backend", 5),
        "c": ("backend", "backend", 1),
        "d": ("main", "main", 1),
    }
