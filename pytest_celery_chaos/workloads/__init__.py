"""What clients ask of Celery, and how a scenario waits for what comes of it."""

from __future__ import annotations

from pytest_celery_chaos.registry import Registry

WORKLOADS = Registry(
    "workload",
    {
        "send": "pytest_celery_chaos.workloads.send:send",
        "revoke": "pytest_celery_chaos.workloads.revoke:revoke",
        "get": "pytest_celery_chaos.workloads.get:get",
        "wait": "pytest_celery_chaos.workloads.wait:wait",
        "heal": "pytest_celery_chaos.workloads.wait:heal",
        "snapshot": "pytest_celery_chaos.workloads.snapshot:snapshot",
    },
)
