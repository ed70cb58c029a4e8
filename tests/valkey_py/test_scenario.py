"""A scenario with both libraries: what a worker of one leaves, a worker of the other finishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from extras import engine_needed, server_needed
from started import COMMAND, run

from pytest_celery_chaos.brokers.find import find

from .conftest import VERSIONS

MOVING = """
scenario: A task that a worker left is finished by one on another client library
profile: fast
client: {first}
apps: {{other: {{client: {second}}}}}
config:
  task_acks_late: true
  broker_transport_options: {{visibility_timeout: 2, unacked_restore_interval: 1, unacked_restore_throttle: 1}}
links: [a-backend]
workers:
  a: {{}}
  b: {{app: other, start: false}}
steps:
  - kill: {{worker: a}}
    when: {{after: run, task: job}}
  - send: {{task: count}}
    name: job
  - wait: {{at: offline, worker: a}}
  - start: {{worker: b}}
  - chord: {{header: [{{task: add, args: [1, 1]}}, {{task: add, args: [2, 2]}}], body: {{task: echo}}}}
expect:
  - redelivered: {{task: job}}
  - executions: {{task: job, exactly: 2}}
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("first", "second"), [("valkey", "redis"), ("redis", "valkey")])
def test_workers_of_both_libraries_finish_each_others_tasks(
    tmp_path: Path, version: str, first: str, second: str
) -> None:
    with server_needed():
        find("valkey", version)
    (tmp_path / "moving.chaos.yaml").write_text(MOVING.format(first=first, second=second))
    done = run(*COMMAND, "run", f"--server=valkey-{version}", "moving.chaos.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (history,) = (tmp_path / ".celery-chaos" / "runs").glob("*/history.ndjson")
    urls = {
        event["source"]: event["attrs"]["settings"]["broker_url"].partition(":")[0]
        for line in history.read_text().splitlines()
        if (event := json.loads(line)).get("kind") == "ready" and event["source"].startswith("worker:")
    }
    assert urls == {"worker:a": first, "worker:b": second}


SECURE = Path(__file__).parents[2] / "scenarios" / "connection" / "tls.chaos.yaml"


@pytest.mark.parametrize("version", ["8.1", "9.1"])
def test_over_tls_a_worker_survives_its_broker(tmp_path: Path, version: str) -> None:
    """On servers that speak TLS themselves, which those of the wheels do not."""
    engine_needed(f"valkey/valkey:{version}")
    arguments = ("--client=valkey", "--provider=container", f"--server=valkey-{version}", "-k", "direct")
    done = run(*COMMAND, "run", *arguments, str(SECURE), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (history,) = (tmp_path / ".celery-chaos" / "runs").glob("*/history.ndjson")
    assert '"broker_url":"valkeys://' in history.read_text()
