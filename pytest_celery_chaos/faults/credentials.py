"""Faults of credentials: the password is changed, or what an application may do is narrowed, while it runs."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from pytest_celery_chaos.brokers.answers import answering
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.values import BrokerRef

if TYPE_CHECKING:
    from pytest_celery_chaos.engine.run import Heal, Run


def credentials(
    run: Run,
    *,
    password: bool = False,
    rules: list[str] | None = None,
    client_kill: bool = False,
    broker: BrokerRef = "main",
) -> Heal:
    """Change the applications' password, or what they may do (ACL SETUSER), while they are connected.

    Connections that have authenticated before stay, and feel narrower rules at once; who connects anew needs the
    new password. Heals by giving the user back what it had. The harness has a user of its own.

    :param password: change it to one that no application knows.
    :param rules: ACL rules on top of those in force: ``["-brpop"]``, ``["resetkeys", "~orders"]``.
    :param client_kill: close the user's connections too (CLIENT KILL USER), as hosted servers do when credentials
        expire.
    :param broker: the server, by name.
    :raises UsageError: neither a password nor rules are to be changed, or the server does not take a rule.
    """
    if not password and not rules:
        raise UsageError(
            "credentials changes nothing", where=run.step.place, hint='write `password: true` or `rules: ["-brpop"]`'
        )
    user = run.broker(broker).username
    with answering():
        redis: Any = run.redis(broker, 0)
        before = _rules_of(redis, user)
        # One command, so that nobody is in between. `resetpass` also takes back that no password is needed.
        _set_user(run, redis, user, [*(["resetpass", f">{secrets.token_hex(16)}"] if password else []), *(rules or ())])
        killed = int(redis.client_kill_filter(user=user)) if client_kill else 0
    run.tell(connections=killed)

    def heal() -> None:
        with answering():
            redis.execute_command("ACL", "SETUSER", user, "reset", *before)

    return heal


def _rules_of(redis: Any, user: str) -> list[str]:
    """What the user is by now, in the words of ACL SETUSER: ``on``, hashes of passwords, keys, channels, commands."""
    for line in redis.acl_list():
        text = line.decode() if isinstance(line, bytes) else str(line)
        _, name, *rules = text.split(" ")
        if name == user:
            return rules
    raise UsageError(f"the server has no user {user!r}", hint="leave out the option `aclfile`")


def _set_user(run: Run, redis: Any, user: str, rules: list[str]) -> None:
    from redis import ResponseError

    try:
        redis.execute_command("ACL", "SETUSER", user, *rules)
    except ResponseError as error:
        raise UsageError(
            f"the server does not take these rules: {error}", where=run.step.place, hint="see ACL SETUSER"
        ) from error
