"""What a scenario says of a client, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_celery_chaos.values import AppRef


@dataclass(frozen=True)
class ClientSpec:
    """One process that publishes and reads results, as a web application does.

    :param name: by which steps name it.
    :param app: which of the scenario's applications it uses.
    :param config: Celery settings laid over the application's in this client alone.
    :param env: environment variables.
    """

    name: str
    app: AppRef = "main"
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
