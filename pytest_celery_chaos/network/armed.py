"""A rule that is armed in the RESP-aware proxy, as the harness sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.system import wait

if TYPE_CHECKING:
    from pytest_celery_chaos.network.proxy import Proxy


class Armed:
    """A rule that is armed in the proxy."""

    def __init__(self, proxy: Proxy, number: int, what: str) -> None:
        self._proxy, self.number, self._what = proxy, number, what

    def state(self) -> dict[str, Any]:
        """``seen`` (units that it meant), ``acted``, ``over``, ``holding`` (how many it holds now)."""
        return self._proxy.ask("rule", rule=self.number)

    def wait(self, timeout: float = 10.0, *, times: int = 1) -> None:
        """Until it has acted so often.

        :raises WaitExpired: it has not.
        """
        last: dict[str, Any] = {}

        def acted() -> bool:
            last.update(self.state())
            return bool(last["acted"] >= times)

        wait.until(acted, what=f"{self._what} to act {times} times", timeout=timeout, last=lambda: str(last))

    def release(self) -> int:
        """Let go of what it holds now; how many that were."""
        return int(self._proxy.ask("release", rule=self.number)["released"])

    def disarm(self) -> dict[str, Any]:
        """Mean nothing any more, and let go of what it holds; its last state."""
        return self._proxy.ask("disarm", rule=self.number)
