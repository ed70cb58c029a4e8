"""Every error that pytest-celery-chaos raises: one base class, and what to do about each.

An error names the value, the place and the next step. ``hint`` is that next step; it is printed on a line
of its own. A password never enters a message: addresses go through :func:`redact` first.
"""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?P<scheme>[a-z0-9+]+://)(?P<user>[^:/@\s]*):(?P<secret>[^@/\s]+)@", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace the password of every URL in *text* by ``***``, so that the text may be shown or stored."""
    return _PASSWORD.sub(r"\g<scheme>\g<user>:***@", text)


class ChaosError(Exception):
    """Base of all errors of this package; catch it to catch them all.

    :param what: what went wrong, with the offending value.
    :param where: the place: ``file:line:column``, a step, a worker's or broker's name.
    :param hint: what to do next.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = redact(what), where, hint and redact(hint)
        text = f"{where}: {self.what}" if where else self.what
        super().__init__(f"{text}\n  hint: {self.hint}" if self.hint else text)


class UsageError(ChaosError):
    """A verb, a fixture or an option was used wrongly. Correct the call: nothing was started or changed."""


class ScenarioError(UsageError):
    """A scenario file cannot be used. Correct every place that the message names: it lists all of them at once."""


class ServerNotFound(ChaosError):
    """No binary of the wanted server and version was found. Run ``celery-chaos servers install`` or name its path."""


class StartFailed(ChaosError):
    """A broker, worker or client did not come up. The message ends with the last lines of its log."""


class WaitExpired(ChaosError):
    """Something awaited did not happen before its deadline. The message says what was seen last."""


class NoAnswer(ChaosError):
    """A server did not answer a read of the harness's own. Heal what keeps it from answering, or give it time."""


class FaultWithoutEffect(ChaosError):
    """A fault found nothing to act on, or did not bite. Correct what it names, or when it strikes."""


class KeeperGone(ChaosError):
    """The process that spawns and cleans up has died. Run again; if it repeats, report it with the run's folder."""


class ProxyGone(ChaosError):
    """The proxy between clients and servers has died. The run proves nothing: run again, and report its log."""


class OverlayIneffective(ChaosError):
    """A setting given to a worker is not in force there. The application sets it where nothing can override it."""


class ForeignBroker(ChaosError):
    """Test code published to a broker that is not the test's own. Use the task through ``chaos_app``."""


class StoredRunError(ChaosError):
    """A stored run cannot be read. Name the folder of a run, as ``celery-chaos run`` prints it."""
