"""A family of processes that does what it can to survive. Run: ``python -I -S survivor.py TOKEN``.

Every member ends by itself after LIFETIME seconds, should a test fail to end it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

LIFETIME = 30
token = sys.argv[1]
born = time.monotonic()


def fork(role: Callable[[], None]) -> None:
    if os.fork() == 0:
        signal.alarm(LIFETIME)
        role()
        os._exit(0)


def deaf() -> None:
    """Ignores all signals that can be ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def daemon() -> None:
    """Leaves the session, and its parent at once."""
    os.setsid()
    fork(deaf)


def wiped() -> None:
    """Leaves everything that tells where it comes from: session, parent, environment; and is stopped."""
    os.setsid()
    if os.fork() == 0:
        if os.fork() == 0:
            os.execve("/bin/sleep", [f"{token}", str(LIFETIME)], {})
        os.kill(os.getpid(), signal.SIGSTOP)


def runner() -> None:
    """Hands on to a fork of itself all the time: no pid of it lives longer than a millisecond."""
    os.setsid()
    while time.monotonic() - born < LIFETIME:
        if os.fork():
            os._exit(0)
        time.sleep(0.001)


def grower() -> None:
    """A tree that grows while it is being cut."""
    for _ in range(40):
        fork(deaf)
        time.sleep(0.005)
    deaf()


for role in (deaf, stopped, daemon, wiped, runner, grower):
    fork(role)
signal.alarm(LIFETIME)
deaf()
