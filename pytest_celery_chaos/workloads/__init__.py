"""What clients ask of Celery, and how a scenario waits for what comes of it."""

from __future__ import annotations

from pytest_celery_chaos.registry import Registry

#: Workloads that publish tasks: the name of such a step stands for the ids.
PUBLISHING = ("send", "group", "chord", "chain", "map")

WORKLOADS = Registry(
    "workload",
    {
        "send": "pytest_celery_chaos.workloads.send:send",
        "group": "pytest_celery_chaos.workloads.canvas:group",
        "chord": "pytest_celery_chaos.workloads.canvas:chord",
        "chain": "pytest_celery_chaos.workloads.canvas:chain",
        "map": "pytest_celery_chaos.workloads.canvas:map",
        "revoke": "pytest_celery_chaos.workloads.revoke:revoke",
        "control": "pytest_celery_chaos.workloads.control:control",
        "get": "pytest_celery_chaos.workloads.get:get",
        "wait": "pytest_celery_chaos.workloads.wait:wait",
        "heal": "pytest_celery_chaos.workloads.wait:heal",
        "snapshot": "pytest_celery_chaos.workloads.snapshot:snapshot",
    },
)
