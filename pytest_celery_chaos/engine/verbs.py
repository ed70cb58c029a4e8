"""The verbs and the checks as methods. How each is typed is written in ``verbs.pyi``, made from their signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_celery_chaos.checks import CHECKS
from pytest_celery_chaos.faults import FAULTS
from pytest_celery_chaos.registry import Registry, Verb
from pytest_celery_chaos.workloads import WORKLOADS


class Verbs:
    """Every fault and every workload is a method; :meth:`_perform` is told of its call."""

    def _perform(self, verb: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., Any]:
        registry: Registry
        for registry in (FAULTS, WORKLOADS):
            if name in registry:
                verb = registry[name]
                return lambda *args, **kwargs: self._perform(verb, args, kwargs)
        raise AttributeError(f"no verb is called {name!r}; there are: {', '.join([*FAULTS, *WORKLOADS])}")


class Checks:
    """Every check is a method; :meth:`_expect` is told of its call."""

    def _expect(self, check: Verb, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in CHECKS:
            raise AttributeError(f"no check is called {name!r}; there are: {', '.join(CHECKS)}")
        check = CHECKS[name]
        return lambda *args, **kwargs: self._expect(check, args, kwargs)
