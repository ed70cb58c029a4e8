"""What can be broken. One family a file; each fault is one function that applies it and returns how it heals."""

from __future__ import annotations

from pytest_celery_chaos.registry import Registry

FAULTS = Registry(
    "fault",
    {
        "kill": "pytest_celery_chaos.faults.process:kill",
        "stop": "pytest_celery_chaos.faults.process:stop",
        "start": "pytest_celery_chaos.faults.process:start",
        "restart": "pytest_celery_chaos.faults.process:restart",
        "pause": "pytest_celery_chaos.faults.process:pause",
        "resume": "pytest_celery_chaos.faults.process:resume",
        "recreate": "pytest_celery_chaos.faults.container:recreate",
        "disconnect": "pytest_celery_chaos.faults.container:disconnect",
        "delete": "pytest_celery_chaos.faults.data:delete",
        "expire": "pytest_celery_chaos.faults.data:expire",
        "overwrite": "pytest_celery_chaos.faults.data:overwrite",
        "flush": "pytest_celery_chaos.faults.data:flush",
        "evict": "pytest_celery_chaos.faults.memory:evict",
        "fill": "pytest_celery_chaos.faults.memory:fill",
        "client_kill": "pytest_celery_chaos.faults.connection:client_kill",
        "client_pause": "pytest_celery_chaos.faults.connection:client_pause",
        "readonly": "pytest_celery_chaos.faults.states:readonly",
        "misconf": "pytest_celery_chaos.faults.states:misconf",
        "loading": "pytest_celery_chaos.faults.states:loading",
        "credentials": "pytest_celery_chaos.faults.credentials:credentials",
        "age": "pytest_celery_chaos.faults.age:age",
        "cut": "pytest_celery_chaos.faults.network:cut",
        "down": "pytest_celery_chaos.faults.network:down",
        "freeze": "pytest_celery_chaos.faults.network:freeze",
        "partition": "pytest_celery_chaos.faults.network:partition",
        "latency": "pytest_celery_chaos.faults.network:latency",
        "bandwidth": "pytest_celery_chaos.faults.network:bandwidth",
        "slow_close": "pytest_celery_chaos.faults.network:slow_close",
        "timeout": "pytest_celery_chaos.faults.network:timeout",
        "reset_peer": "pytest_celery_chaos.faults.network:reset_peer",
        "slicer": "pytest_celery_chaos.faults.network:slicer",
        "limit_data": "pytest_celery_chaos.faults.network:limit_data",
        "drop": "pytest_celery_chaos.faults.wire:drop",
        "answer": "pytest_celery_chaos.faults.wire:answer",
        "delay": "pytest_celery_chaos.faults.wire:delay",
        "duplicate": "pytest_celery_chaos.faults.wire:duplicate",
        "timeline": "pytest_celery_chaos.faults.wire:timeline",
        "hold": "pytest_celery_chaos.faults.protocol:hold",
    },
)
