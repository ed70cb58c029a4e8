"""A plan: everything that a run needs to know, resolved, as a value. Made from a scenario file or by the fixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.clients.spec import BeatSpec, ClientSpec
from pytest_celery_chaos.values import AtLeast, BrokerRef, ClientLibrary, ProxyKind
from pytest_celery_chaos.workers.spec import WorkerSpec

#: The number of one of a server's databases.
Database: TypeAlias = Annotated[int, AtLeast(0)]


@dataclass(frozen=True)
class Moment:
    """When: at an event of the history, before or after a point of the protocol, or after a time.

    Exactly one of *before*, *after*, *at* and *delay* is set.

    :param before: a point (see :data:`pytest_celery_chaos.history.event.POINTS`); the process is held in front of it.
    :param after: a point; the process is held behind it.
    :param at: any event of :data:`~pytest_celery_chaos.history.event.KINDS`.
    :param delay: seconds after *since*.
    :param since: the name of a step (default: where the moment is armed).
    :param task: the name of a ``send`` step, a task's name, or an id; None: any.
    :param worker: a worker's name, *client* a client's, *beat* a beat's; None: any process.
    :param link: a link's name: the point is that of a command on its way (see :mod:`history.wire`), and who is held
        there is not the process but what it has sent, or what the server has answered.
    :param nth: the n-th such event, from 1.
    :param timeout: seconds that a ``wait`` waits; of a ``when``: until it counts as never reached.
    """

    before: str | None = None
    after: str | None = None
    at: str | None = None
    delay: float | None = None
    since: str | None = None
    task: str | None = None
    worker: str | None = None
    client: str | None = None
    beat: str | None = None
    link: str | None = None
    nth: int = 1
    timeout: float | None = None


@dataclass(frozen=True)
class Step:
    """One verb of the file with its arguments, checked against the verb's signature.

    :param heal_after: seconds after which the fault heals by itself (``for:`` of the file).
    :param place: ``file:line:column``, for messages.
    """

    index: int
    verb: str
    family: Literal["fault", "workload"]
    args: Mapping[str, Any]
    name: str | None = None
    when: Moment | None = None
    heal_after: float | None = None
    place: str | None = None


@dataclass(frozen=True)
class Hazard:
    """A violation that is known: pinned to what was seen, on which variants and versions.

    :param seen: the figure that the check reports, or its bounds ``(low, high)``.
    :param variant: only in this variant, or these; empty: in all.
    :param where: versions or axes it is known on, ``{"kombu": "<5.7", "pool": "prefork"}``; empty: everywhere.
    :param ref: by which name it is known elsewhere: an issue, a section of a document.
    :param why: one sentence on its cause.
    """

    seen: float | tuple[float, float]
    ref: str
    why: str
    variant: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """A check of the file, with its arguments and the hazards recorded beside it."""

    check: str
    args: Mapping[str, Any]
    hazards: Sequence[Hazard] = ()
    place: str | None = None


@dataclass(frozen=True)
class AppSpec:
    """One of several applications, with settings and databases of its own.

    :param app: ``builtin``, or the user's own as ``proj.celery:app``; default: what the file's ``app`` says.
    :param config: Celery settings, merged over the file's ``config``.
    :param broker: the server that holds its messages.
    :param db: the database of its messages.
    :param backend: the server that holds its results; default: the file's backend, or else its broker.
    :param result_db: the database of its results; default: 1 on its broker, 0 on a server for results.
    :param client: by which library its processes reach their servers; default: what the file says.
    """

    app: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    broker: BrokerRef = "main"
    db: Database = 0
    backend: BrokerRef | None = None
    result_db: Database | None = None
    client: ClientLibrary | None = None


def _one_client() -> Mapping[str, ClientSpec]:
    return {"main": ClientSpec("main")}


@dataclass(frozen=True)
class Plan:
    """One run.

    :param app: ``builtin``, or the user's own as ``proj.celery:app``.
    :param config: Celery settings for every worker and client, merged over the application's.
    :param apps: applications beside, or instead of, ``main``, by name.
    :param client: by which library processes reach their servers; `valkey` is valkey-py, by ``valkey://``.
    :param clients: by name; the first is the one that steps mean if they name none.
    :param backend: a server of its own for results; None: database 1 of the broker.
    :param links: names of the ways through a proxy; all others are direct.
    :param proxy: which proxy that is; None: what the session prefers, if it can do what the steps ask for.
    :param observe: judge after so many seconds instead of waiting for quiet.
    :param quiet: seconds that quiet may take.
    :param axes: what was chosen from outside the file (server, pool), for reports.
    :param skip: why this plan is not to be run; None: it is.
    """

    scenario: str
    variant: str | None = None
    file: str | None = None
    about: str = ""
    refs: Sequence[str] = ()
    app: str = "builtin"
    config: Mapping[str, Any] = field(default_factory=dict)
    apps: Mapping[str, AppSpec] = field(default_factory=dict)
    client: ClientLibrary = "redis"
    clients: Mapping[str, ClientSpec] = field(default_factory=_one_client)
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    broker: BrokerSpec = field(default_factory=BrokerSpec)
    backend: BrokerSpec | None = None
    workers: Mapping[str, WorkerSpec] = field(default_factory=dict)
    beats: Mapping[str, BeatSpec] = field(default_factory=dict)
    links: Sequence[str] = ()
    proxy: ProxyKind | None = None
    steps: Sequence[Step] = ()
    observe: float | None = None
    quiet: float = 60.0
    expect: Sequence[Expectation] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    skip: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The plan as JSON-ready data, for the run's folder."""
        return asdict(self)


def plain(value: Any) -> Any:
    """*value* as JSON-ready data: of a dataclass among the arguments of a step, only what was given is told."""
    if is_dataclass(value) and not isinstance(value, type):
        given = {each.name: getattr(value, each.name) for each in fields(value)}
        return {name: plain(each) for name, each in given.items() if each is not None and each not in ((), {}, False)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value
