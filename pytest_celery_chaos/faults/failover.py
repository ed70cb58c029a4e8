"""What Sentinel does to whom it watches over, and what is done to Sentinel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import BrokerRef, Duration

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Run


def failover(run: Run, *, broker: BrokerRef = "main", coordinated: bool = False, within: Duration = 30.0) -> None:
    """Have a Sentinel put a replica in the primary's place, though that is well (SENTINEL FAILOVER).

    It goes on when clients are told of the new one (`promoted`). The old one knows nothing of it: it serves those who
    are connected until Sentinel makes it a replica some ten seconds later (`demoted`), and closes their connections.
    For a failover that nobody has asked for, `kill` or `pause` the broker: `main` is the primary of the moment.

    :param broker: the broker, by name; its `topology` is `sentinel`.
    :param coordinated: the old one stands still until the new one has all that it has (Valkey 9).
    :param within: seconds until it has to be done.
    :raises UsageError: it has no Sentinels, none of them runs, or no replica is good enough.
    """
    several = run.environment.servers.replicated.get(broker)
    if several is None:
        raise UsageError(
            f"broker {broker!r} is one server, which nothing can take the place of",
            where=run.step.place,
            hint="give it `topology: sentinel`",
        )
    before, now = several.failover(within, *(["COORDINATED"] if coordinated else []))
    run.tell(before=before.name, now=now.name)
