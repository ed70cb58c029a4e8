"""The `chaos` marker: the keys of a file, as Python values."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celery_chaos.clients.spec import BeatSpec, ClientSpec, EntrySpec
from pytest_celery_chaos.engine.plan import AppSpec, Plan
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.scenario.declared import declared_plan


def declared(**keys: Any) -> Plan:
    return declared_plan({"app": "builtin", "workers": {"a": {}}, **keys}, title="t", server=None, pool=None)


def test_apps_clients_and_beats_are_declared_as_in_a_file() -> None:
    plan = declared(
        apps={"shop": {"db": 2, "config": {"task_acks_late": True}}},
        clients={"web": {"app": "shop"}},
        beats={"ticker": {"schedule": {"tick": {"task": "add", "every": "500ms"}}, "max_interval": 2}},
    )
    assert plan.apps == {"shop": AppSpec(db=2, config={"task_acks_late": True})}
    assert plan.clients == {"web": ClientSpec("web", app="shop")}
    entry = EntrySpec(task="add", every=0.5)
    assert plan.beats == {"ticker": BeatSpec("ticker", schedule={"tick": entry}, max_interval=2.0)}


def test_tasks_of_an_own_application_are_known_only_once_it_runs() -> None:
    beats = {"b": {"schedule": {"tick": {"task": "charge", "every": "1s"}}}}
    assert declared(app="shop:app", beats=beats).beats["b"].schedule["tick"].task == "charge"


def test_without_them_there_is_one_client_and_no_beat() -> None:
    assert declared().clients == {"main": ClientSpec("main")}
    assert declared().beats == {}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"clients": {"web": {"ap": "shop"}}}, "unknown key 'ap' in clients of the chaos marker.web"),
        ({"beats": {"b": {"schedule": {"tick": {"task": "add"}}}}}, "lacks the key 'every'"),
        ({"apps": {"shop": {"db": "two"}}}, "db of apps of the chaos marker.shop: expected a whole number"),
        ({"clients": {"web": {"app": "shop"}}}, "no app is called 'shop'"),
        ({"workers": {"a": {"app": "shop"}}}, "no app is called 'shop'"),
        ({"beats": {"b": {"schedule": {"tick": {"task": "ad", "every": "1s"}}}}}, "no built-in task is called 'ad'"),
        ({"broker": {"name": "x"}}, "unknown key 'name' in broker"),
    ],
)
def test_a_mistake_is_told_as_in_a_file(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        declared(**keys)
