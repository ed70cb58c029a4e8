"""Links of a run: the point on the wire is the point in the process, and a proxy that dies proves nothing."""

from __future__ import annotations

import os
import signal

import pytest
from live import Runs

from pytest_celery_chaos.engine.interactive import conclude, start
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.scenario.declared import declared_plan
from pytest_celery_chaos.system import wait

#: A worker is killed there, and another goes on: at the point inside the worker, or at that of its command on the wire.
KILLED = """
config:
  task_acks_late: true
  broker_transport_options: {{visibility_timeout: 1, unacked_restore_interval: 1, unacked_restore_throttle: 1}}
workers:
  a: {{pool: {pool}}}
  b: {{pool: solo, start: false}}
steps:
  - kill: {{worker: a, for_good: true}}
    when: {{{side}: {point}, task: job{where}}}
  - send: count
    name: job
  - wait: {{at: offline, worker: a}}
  - start: {{worker: b}}
expect:
  - executions: {{task: job, exactly: 1}}
  - completed: {{task: job}}
"""
POINTS = [
    ("after", "pop", "prefork"),
    ("before", "record", "solo"),
    ("before", "store", "prefork"),
    ("before", "ack", "solo"),
    ("after", "ack", "prefork"),
    pytest.param("after", "pop", "solo", marks=pytest.mark.soak),
    pytest.param("after", "record", "prefork", marks=pytest.mark.soak),
    pytest.param("before", "ack", "prefork", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("side", "point", "pool"), POINTS)
def test_a_point_on_the_wire_is_that_inside_the_process(runs: Runs, side: str, point: str, pool: str) -> None:
    link = "a-backend" if point == "store" else "a-broker"
    judged = []
    for where in ("", f", link: {link}"):
        ran = runs(KILLED.format(pool=pool, side=side, point=point, where=where))
        assert ran.of("exercised").outcome == "as_recorded", ran
        assert ran.of("completed").outcome != "inconclusive", ran
        judged.append({each.check: (each.outcome, each.finding.seen) for each in ran.verdict.judgements})
    inside, outside = judged
    assert inside == outside


def test_a_proxy_that_dies_makes_the_run_inconclusive(live_session: Session) -> None:
    declared = {"app": "builtin", "workers": {"a": {"pool": "solo", "profile": "fast"}}, "links": ["a-broker"]}
    plan = declared_plan(declared, title="dies", server=None, pool=None)
    chaos = start(plan, live_session)
    chaos.send(task="count", name="job")
    chaos.wait(at="succeeded", task="job")
    proxy = chaos.run.links.proxy
    os.kill(proxy.child.pid, signal.SIGKILL)
    wait.until(lambda: not proxy.alive, what="the proxy to be gone", timeout=10)
    verdict, _ = conclude(chaos)
    assert (verdict.value, verdict.exit_code) == ("inconclusive", 6), verdict.why
    assert "the proxy has died" in verdict.why


def test_without_links_there_is_no_proxy(runs: Runs) -> None:
    ran = runs("workers: {a: {pool: solo}}\nsteps:\n- send: add\n")
    assert ran.verdict.value == "holds", ran
    assert not (ran.folder / "logs" / "proxy.log").exists()
    assert not ran.run.links.children


def test_one_worker_is_cut_off_while_another_lives(runs: Runs) -> None:
    ran = runs(
        "workers: {a: {pool: solo}, b: {pool: solo}}\n"
        "steps:\n- freeze: {link: a-broker}\n  for: 3s\n- send: {task: count, times: 5}\n  name: job\n"
        "- wait: {at: succeeded, worker: b}\n"
    )
    assert ran.verdict.value == "holds", ran
    assert ran.events("worker:b", "succeeded")
