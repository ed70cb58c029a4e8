"""A soak: load from several clients, workers of several pools, and faults that strike at moments drawn from a seed.

It is a scenario like any other, written by a program: the same seed gives the same text, so that the schedule is
stored, read, cut down by hand and run again as a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from pytest_celery_chaos.errors import UsageError

#: Pools of the workers, in turn; half of them as most users run them.
_POOLS: Final = ("prefork", "solo", "prefork", "threads")
_CONCURRENCY: Final = {"prefork": 2, "solo": 1, "threads": 4}
#: Seconds from the heal of a fault until its victim is struck again, if there is another one to strike.
_RECOVERS: Final = 3.0
#: The part of the duration that faults are spread over.
_STRUCK: Final = 0.85
#: Points of the protocol that a worker of each pool passes for every task, whatever else happens.
_POINTS: Final = ("record", "store", "ack")


@dataclass(frozen=True)
class Soak:
    """What a soak is made of.

    :param seed: the same one gives the same scenario.
    :param tasks: how many messages, over all clients.
    :param strikes: names of :data:`STRIKES` to choose from.
    :param duration: seconds that publishing and faults are spread over.
    """

    seed: int
    tasks: int = 20_000
    clients: int = 4
    workers: int = 6
    faults: int = 40
    duration: float = 80.0
    strikes: Sequence[str] = ()
    persistence: str = "aof-always"
    profile: str = "fast"


@dataclass(frozen=True)
class Strike:
    """One kind of fault.

    :param step: the step that applies it, made from a random source, the worker's name and its pool.
    :param pools: workers of these pools; empty: it strikes the broker.
    :param lasts: seconds until it is healed, between these.
    """

    step: Callable[[Random, str], dict[str, Any]]
    pools: Sequence[str] = _POOLS
    lasts: tuple[float, float] = (0.5, 2.0)
    about: str = ""


def _at_a_point(random: Random, worker: str) -> dict[str, Any]:
    side, point = random.choice(("before", "after")), random.choice(_POINTS)
    return {"kill": {"worker": worker}, "when": {side: point, "worker": worker}}


def _link(random: Random, worker: str) -> str:
    return f"{worker}-{random.choice(('broker', 'backend'))}"


STRIKES: Final[Mapping[str, Strike]] = {
    "kill": Strike(lambda _, worker: {"kill": {"worker": worker}}, about="SIGKILL to a worker's process group"),
    "kill-at-point": Strike(_at_a_point, about="SIGKILL before or after record, store or ack"),
    "kill-child": Strike(
        lambda _, worker: {"kill": {"worker": worker, "target": "child"}},
        pools=("prefork",),
        lasts=(0.0, 0.0),
        about="SIGKILL to one pool process",
    ),
    "stop": Strike(
        lambda random, worker: {"stop": {"worker": worker, "how": random.choice(("warm", "cold")), "grace": "10s"}},
        about="a warm or a cold shutdown",
    ),
    "pause": Strike(lambda _, worker: {"pause": {"worker": worker}}, about="SIGSTOP to a worker"),
    "pause-broker": Strike(
        lambda _, worker: {"pause": {"broker": "main"}}, pools=(), lasts=(0.2, 1.0), about="SIGSTOP to the broker"
    ),
    "client-pause": Strike(
        lambda random, _: {"client_pause": {"mode": random.choice(("all", "write"))}},
        pools=(),
        lasts=(0.2, 1.0),
        about="CLIENT PAUSE for all commands, or for writes",
    ),
    "client-kill": Strike(
        lambda random, _: {"client_kill": {"type": random.choice(("normal", "pubsub"))}},
        pools=(),
        lasts=(0.0, 0.0),
        about="CLIENT KILL of every connection of a kind, the clients' among them",
    ),
    "restart-broker": Strike(
        lambda _, worker: {"restart": {"broker": "main", "how": "kill"}},
        pools=(),
        lasts=(0.0, 0.0),
        about="SIGKILL to the broker, and a start on its append-only file",
    ),
    "cut": Strike(
        lambda random, worker: {"cut": {"link": f"{worker}-broker", "how": random.choice(("rst", "fin"))}},
        lasts=(0.0, 0.0),
        about="a worker's connections to the broker are reset or closed",
    ),
    "freeze": Strike(
        lambda random, worker: {
            "freeze": {"link": _link(random, worker), "stream": random.choice(("both", "upstream", "downstream"))}
        },
        about="nothing passes between a worker and its broker or backend, one way or both",
    ),
    "latency": Strike(
        lambda random, worker: {"latency": {"link": _link(random, worker), "latency": "50ms", "jitter": "50ms"}},
        about="50 ms and more between a worker and its broker or backend",
    ),
    "slicer": Strike(
        lambda random, worker: {"slicer": {"link": _link(random, worker), "average_size": 16, "size_variation": 8}},
        about="what a worker gets from its broker or backend comes in pieces of 16 bytes",
    ),
}

#: What strikes the network between one worker and a server. Asked for, since all that a worker says goes through a
#: proxy then, and is slower by it.
NETWORK: Final = ("cut", "freeze", "latency", "slicer")
#: What strikes unless something else is asked for. Not among them: a broker that refuses connections ends workers of
#: kombu 5.7 that hold a message (KF-87), and no soak with it comes to a clean end.
DEFAULT: Final = tuple(name for name in STRIKES if name not in ("restart-broker", *NETWORK))


def soak(asked: Soak) -> str:
    """The text of the scenario file.

    :raises UsageError: a strike that nobody knows, or figures out of which no soak can be made.
    """
    from pytest_celery_chaos.scenario.load import dump

    return dump(_scenario(_checked(asked)))


def _checked(asked: Soak) -> Soak:
    from pytest_celery_chaos.scenario.problems import nearest

    for name in asked.strikes:
        if name not in STRIKES:
            raise UsageError(f"no fault of a soak is called {name!r}", hint=nearest(name, STRIKES))
    for name in ("tasks", "clients", "workers", "duration"):
        if getattr(asked, name) <= 0:
            raise UsageError(f"a soak with {name} {getattr(asked, name)}", hint="give a number above 0")
    if asked.faults and not any(_victims(asked, STRIKES[name]) for name in asked.strikes or DEFAULT):
        raise UsageError("no worker here can suffer any of these faults", hint="add workers: pools come in turn")
    return asked


def _scenario(asked: Soak) -> dict[str, Any]:
    clients: dict[str, Any] = {f"c{number}": {} for number in range(1, asked.clients + 1)}
    workers = {name: {"pool": pool, "concurrency": _CONCURRENCY[pool]} for name, pool in _pools(asked).items()}
    return {
        "scenario": f"Soak of {asked.tasks} tasks and {asked.faults} faults, seed {asked.seed}",
        "about": "Written by `celery-chaos soak`; the same seed and figures give the same file.",
        "profile": asked.profile,
        "config": {
            "task_acks_late": True,
            "broker_transport_options": {
                "visibility_timeout": 20,
                "unacked_restore_interval": 1,
                "unacked_restore_throttle": 1,
                # A fault that strikes while somebody sweeps leaves the mutex, by default for 300 s (KF-90).
                "unacked_mutex_expire": 10,
            },
        },
        "broker": {"persistence": asked.persistence},
        "clients": clients,
        "workers": workers,
        "steps": [*_load(asked), *_strikes(asked)],
        "quiet": "120s",
        "expect": [{"lost": {"known": ["KF-30", "KF-32"]}}, {"no_critical": {"known": ["KF-91", "C2"]}}],
    }


def _load(asked: Soak) -> Iterator[dict[str, Any]]:
    """Every client publishes its share, all at the same time."""
    share, more = divmod(asked.tasks, asked.clients)
    for number in range(1, asked.clients + 1):
        times = share + (number <= more)
        if times:
            send = {
                "task": "add",
                "times": times,
                "rate": round(times / asked.duration, 3),
                "client": f"c{number}",
                "timeout": "120s",
            }
            yield {"send": send, "name": f"load{number}", "when": {"after": "0s"}}


def _strikes(asked: Soak) -> Iterator[dict[str, Any]]:
    """The faults, each behind a wait for its time."""
    if not asked.faults:
        return
    random = Random(asked.seed)
    last: dict[str, str] = {}  # by worker, the fault that it has still to recover from
    free = dict.fromkeys(_pools(asked), 0.0)
    # Waits for who has still to recover make the last ones late: there must be load left for them.
    now, every = 0.0, _STRUCK * asked.duration / asked.faults
    names = [name for name in (asked.strikes or DEFAULT) if _victims(asked, STRIKES[name])]
    for number in range(asked.faults):
        kind = random.choice(names)
        strike, name = STRIKES[kind], f"{kind}-{number + 1}"
        lasts = round(random.uniform(*strike.lasts), 3)
        due = (number + random.random()) * every
        if due > now:
            yield {"wait": {"after": f"{due - now:.3f}s"}}
            now = due
        if strike.pools:
            # The one that was left alone for longest, of two: so that nobody need be waited for, mostly.
            victim = min(random.choices(_victims(asked, strike), k=2), key=lambda each: free[each])
            waited = [last.pop(victim)] if victim in last else []
            free[victim] = now + lasts + _RECOVERS
        else:
            # A worker that starts while its broker is away is another matter than the one that is looked at here.
            victim, waited = "main", list(last.values())
            last.clear()
        for each in waited:
            yield {"wait": {"healed": each, "timeout": "120s"}}
        yield {**strike.step(random, victim), "name": name, **({"for": f"{lasts}s"} if lasts else {})}
        if lasts:
            last[victim] = name


def _pools(asked: Soak) -> Mapping[str, str]:
    return {f"w{number + 1}": _POOLS[number % len(_POOLS)] for number in range(asked.workers)}


def _victims(asked: Soak, strike: Strike) -> Sequence[str]:
    """The workers that can suffer it; of a fault of the broker, the broker."""
    if not strike.pools:
        return ["main"]
    return [name for name, pool in _pools(asked).items() if pool in strike.pools]
