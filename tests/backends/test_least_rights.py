"""The rules of docs/acl.md: with them nothing that Celery does is refused, and without one of them something is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from extras import server_needed

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.brokers.roles import text
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.engine.chaos import Chaos
from pytest_celery_chaos.engine.interactive import start
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.runner import finish
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.workers.spec import WorkerSpec

PAGE = Path(__file__).parents[2] / "docs" / "acl.md"
CONFIG = {
    "task_acks_late": True,
    "worker_send_task_events": True,
}
#: Of kombu 5.7; before, the sweep has no settings.
SWEEP = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}


def rules_of(part: str) -> list[str]:
    """The page's rules for `broker` or `backend`; a line of it has several."""
    for block in PAGE.read_text().split("```yaml\n")[1:]:
        said = yaml.safe_load(block.partition("```")[0])
        if part in said:
            return [rule for line in said[part]["acl"] for rule in line.split()]
    raise AssertionError(f"no rules for {part} in {PAGE}")


@pytest.fixture
def run(session: Session) -> Iterator[Any]:
    begun: list[Chaos] = []

    def run(celery: str | None = None, server: str = "valkey-9.1", without: str | None = None) -> Chaos:
        kind, _, version = server.partition("-")
        with server_needed():
            find(kind, version)  # type: ignore[arg-type]
        rules = {part: [rule for rule in rules_of(part) if rule != without] for part in ("broker", "backend")}
        rules["broker"][:0] = ["~orders*", "~news*", "&/0.news"]
        spec = {"server": kind, "version": version, "provider": "local"}
        plan = Plan(
            "least rights",
            config={**CONFIG, "broker_transport_options": SWEEP if celery is None else {"visibility_timeout": 2}},
            queues={"orders": {}, "news": {"type": "fanout"}},
            broker=BrokerSpec(acl=rules["broker"], **spec),  # type: ignore[arg-type]
            backend=BrokerSpec("backend", acl=rules["backend"], **spec),  # type: ignore[arg-type]
            workers={
                name: WorkerSpec(name, celery=celery, queues=["celery", "orders", "news"], start=not without and starts)
                for name, starts in (("a", True), ("b", False))
            },
        )
        begun.append(start(plan, session))
        return begun[-1]

    yield run
    for chaos in begun:
        finish(chaos.run, session)


def refused(chaos: Chaos) -> list[tuple[str, str, str]]:
    """What the servers have refused: of which server, why, and what."""
    found = []
    for name in ("main", "backend"):
        for entry in chaos.run.redis(name, 0).execute_command("ACL", "LOG"):
            pairs = entry.items() if isinstance(entry, dict) else zip(entry[::2], entry[1::2], strict=True)
            said = {text(key): value for key, value in pairs}
            found.append((name, text(said["reason"]), text(said["object"])))
    return found


@pytest.mark.parametrize(
    ("celery", "server"),
    [(None, "valkey-9.1"), ("5.3", "valkey-8.1"), pytest.param("5.5", "valkey-9.1", marks=pytest.mark.soak)],
)
def test_nothing_that_celery_does_is_refused(run: Any, celery: str | None, server: str) -> None:
    chaos: Chaos = run(celery, server)
    for task, more in (
        ("echo", {"args": [1]}),
        ("add", {"args": [1, 1], "priority": 5, "countdown": 0.5}),
        ("count", {"queue": "orders"}),
        ("count", {"exchange": "news", "routing_key": ""}),
        ("retry", {}),
    ):
        chaos.send(task=task, name=f"{task}-{len(more)}-{more.get('queue')}", **more)
    chaos.get(task="echo-1-None")
    parts = [{"task": "echo", "args": [number]} for number in (1, 2)]
    chaos.group(tasks=parts, name="group")
    chaos.chord(header=parts, body={"task": "collect"}, name="chord")
    for name in ("group", "chord"):
        chaos.get(task=name)
    chaos.control(command="ping")
    chaos.send(task="sleep", args=[1], name="long")
    chaos.wait(at="started", task="long")
    chaos.send(task="sleep", args=[5], name="unwanted")
    chaos.revoke(task="unwanted")
    chaos.kill(worker="a", for_good=True)
    chaos.run.let_pass(2.5)  # until `long` is due: kombu before 5.7 sweeps at its start, and after a hundred seconds
    chaos.start(worker="b")
    chaos.wait(at="succeeded", task="long", timeout=30)  # from `unacked`, by a sweep
    assert chaos.history.of("restore", "ok")
    assert refused(chaos) == []


@pytest.mark.parametrize(
    ("without", "reason"), [("+lpush", "command"), ("~celery*", "key"), ("&celery-task-meta-*", "channel")]
)
def test_with_one_rule_less_something_is(run: Any, without: str, reason: str) -> None:
    chaos: Chaos = run(without=without)
    chaos.send(task="echo", args=[1], name="one")
    chaos.get(task="one", timeout=1)
    assert reason in {why for _, why, _ in refused(chaos)}
