"""The format of a scenario file: its top-level keys, as one dataclass. Schema and reference page are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.clients.spec import BeatSpec, ClientSpec
from pytest_celery_chaos.engine.plan import AppSpec
from pytest_celery_chaos.scenario import fields
from pytest_celery_chaos.scenario.decode import Decoder
from pytest_celery_chaos.scenario.entries import ExpectEntry, ExpectList, StepEntry, StepList
from pytest_celery_chaos.scenario.tree import Node
from pytest_celery_chaos.values import ClientLibrary, Duration, LinkRef, ProxyKind
from pytest_celery_chaos.workers.spec import Pool, Profile, WorkerSpec


@dataclass(frozen=True)
class QueueSpec:
    """A queue that the application declares (Celery's ``task_queues``).

    :param exchange: the exchange's name; default: the queue's.
    :param type: the exchange's type.
    :param routing_key: default: the queue's name.
    :param arguments: kombu's ``queue_arguments``, such as ``x-max-priority``.
    """

    exchange: str | None = None
    type: Literal["direct", "topic", "fanout"] = "direct"
    routing_key: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Marks a mapping as some fields of a dataclass: what the file leaves out is filled in later.

    :param but: fields that the file gives otherwise.
    """

    kind: type
    but: tuple[str, ...] = ()

    @property
    def fields(self) -> fields.Fields:
        return fields.of_dataclass(self.kind).without(*self.but)

    def read(self, decoder: Decoder, node: Node, what: str) -> Any:
        return decoder.fields(node, self.fields, what)


@dataclass(frozen=True)
class Format:
    """A scenario file, one variant of it: what it says, before anything is filled in.

    :param scenario: the title, one line.
    :param steps: what happens, in this order.
    :param workers: the workers, by name; `a: {}` is one with the defaults.
    :param about: what a Celery user learns from it.
    :param refs: where more is told: issues, sections of documents.
    :param app: `builtin`, or the user's own as `proj.celery:app`.
    :param profile: for workers that do not state theirs.
    :param pools: the pools on which the scenario makes sense, where workers do not state theirs; the first is the
        default. Another pool asked for on the command line skips the scenario.
    :param variants: by variant, the values that stand for `$name`. Every variant gives the same names; each is one
        test. `$$name` is the text `$name`.
    :param config: Celery settings for every worker and client, merged over the application's.
    :param apps: by name, further applications with settings, databases and prefixes of their own; `main` is the one
        that `app` and `config` describe, and may be listed to give it other databases.
    :param client: by which library Celery reaches its servers: `redis` is redis-py, `valkey` is valkey-py by
        `valkey://`, which the harness brings (docs/valkey.md).
    :param clients: by name, the processes that publish; the first is meant where a step names none. Default: one,
        `main`.
    :param beats: by name, the `celery beat` processes.
    :param queues: by name, the queues beside Celery's default one.
    :param broker: the server, called `main`; on the command line `--server` chooses another server or version.
    :param backend: a server of its own for results, called `backend`; default: database 1 of the broker.
    :param links: names of links (`a-broker`, `main-backend`) that go through a proxy. What a step uses need not be
        listed: this is for tests, whose steps come later.
    :param proxy: what links go through: `resp`, which knows Redis, or `toxiproxy`, which bends bytes alone and has to
        be installed. Default: the setting `chaos_proxy` where it can do all steps, and else `resp`.
    :param observe: judge after so long instead of waiting for quiet, where it never falls quiet.
    :param quiet: how long quiet may take before the run is inconclusive.
    :param expect: what must hold, beside what always must.
    """

    scenario: str
    workers: Mapping[str, Annotated[Mapping[str, Any], Part(WorkerSpec, but=("name",))]]
    steps: Annotated[Sequence[StepEntry], StepList()]
    about: str = ""
    refs: Sequence[str] = ()
    app: str = "builtin"
    profile: Profile = "default"
    pools: Sequence[Pool] = ()
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    apps: Mapping[str, Annotated[Mapping[str, Any], Part(AppSpec)]] = field(default_factory=dict)
    client: ClientLibrary = "redis"
    clients: Mapping[str, Annotated[Mapping[str, Any], Part(ClientSpec, but=("name",))]] = field(default_factory=dict)
    beats: Mapping[str, Annotated[Mapping[str, Any], Part(BeatSpec, but=("name",))]] = field(default_factory=dict)
    queues: Mapping[str, Annotated[Mapping[str, Any], Part(QueueSpec)]] = field(default_factory=dict)
    broker: Annotated[Mapping[str, Any], Part(BrokerSpec, but=("name",))] = field(default_factory=dict)
    backend: Annotated[Mapping[str, Any], Part(BrokerSpec, but=("name",))] | None = None
    links: Sequence[LinkRef] = ()
    proxy: ProxyKind | None = None
    observe: Duration | None = None
    quiet: Duration = 60.0
    expect: Annotated[Sequence[ExpectEntry], ExpectList()] = ()


@dataclass(frozen=True)
class Scenario:
    """A file that was read and found right.

    :param file: its path.
    :param formats: what it says, by variant; one under None where it has no variants.
    """

    file: str
    formats: Mapping[str | None, Format]

    @property
    def title(self) -> str:
        return next(iter(self.formats.values())).scenario
