"""Invariants over a history. One family a file; each check is one pure function of the history."""

from __future__ import annotations

from pytest_celery_chaos.registry import Registry

CHECKS = Registry(
    "check",
    {
        "lost": "pytest_celery_chaos.checks.delivery:lost",
        "unexpected": "pytest_celery_chaos.checks.delivery:unexpected",
        "completed": "pytest_celery_chaos.checks.completed:completed",
        "result_state": "pytest_celery_chaos.checks.completed:result_state",
        "executions": "pytest_celery_chaos.checks.executions:executions",
        "published": "pytest_celery_chaos.checks.published:published",
        "overlap": "pytest_celery_chaos.checks.executions:overlap",
        "redelivered": "pytest_celery_chaos.checks.redelivery:redelivered",
        "requeued": "pytest_celery_chaos.checks.shutdown:requeued",
        "exits": "pytest_celery_chaos.checks.shutdown:exits",
        "never_started": "pytest_celery_chaos.checks.revoked:never_started",
        "revoked_known": "pytest_celery_chaos.checks.revoked:revoked_known",
        "state_keys": "pytest_celery_chaos.checks.state:state_keys",
        "unique_nodenames": "pytest_celery_chaos.checks.nodes:unique_nodenames",
        "duplicates_warned": "pytest_celery_chaos.checks.nodes:duplicates_warned",
        "ordered": "pytest_celery_chaos.checks.ordering:ordered",
        "body_once": "pytest_celery_chaos.checks.ordering:body_once",
        "consumes": "pytest_celery_chaos.checks.liveness:consumes",
        "reconnects": "pytest_celery_chaos.checks.liveness:reconnects",
        "notices": "pytest_celery_chaos.checks.liveness:notices",
        "answered": "pytest_celery_chaos.checks.control:answered",
        "loop": "pytest_celery_chaos.checks.loop:loop",
        "on_schedule": "pytest_celery_chaos.checks.schedule:on_schedule",
        "remembers": "pytest_celery_chaos.checks.schedule:remembers",
        "latency": "pytest_celery_chaos.checks.latency:latency",
        "raises": "pytest_celery_chaos.checks.errors:raises",
        "returns": "pytest_celery_chaos.checks.errors:returns",
        "prefetched": "pytest_celery_chaos.checks.prefetch:prefetched",
        "prefetch_limit": "pytest_celery_chaos.checks.prefetch:prefetch_limit",
        "started_in_order": "pytest_celery_chaos.checks.sequence:started_in_order",
        "in_force": "pytest_celery_chaos.checks.settings:in_force",
        "stored": "pytest_celery_chaos.checks.storage:stored",
        "leaked_keys": "pytest_celery_chaos.checks.storage:leaked_keys",
        "foreign_keys": "pytest_celery_chaos.checks.storage:foreign_keys",
        "ttl": "pytest_celery_chaos.checks.storage:ttl",
        "bindings": "pytest_celery_chaos.checks.storage:bindings",
        "unacked_index": "pytest_celery_chaos.checks.storage:unacked_index",
        "subscriptions": "pytest_celery_chaos.checks.connections:subscriptions",
        "connections": "pytest_celery_chaos.checks.connections:connections",
        "workers_alive": "pytest_celery_chaos.checks.sanity:workers_alive",
        "no_critical": "pytest_celery_chaos.checks.sanity:no_critical",
        "clean_end": "pytest_celery_chaos.checks.sanity:clean_end",
        "exercised": "pytest_celery_chaos.checks.sanity:exercised",
    },
)

#: Checks that judge every run, whatever its file expects (DESIGN 4); an expectation of the same name replaces one.
ALWAYS = ("exercised", "lost", "unexpected", "workers_alive", "no_critical", "clean_end")
