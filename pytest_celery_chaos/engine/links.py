"""The links of a run: which process's way to which server goes through the proxy, and whose each connection is.

A link is named by its process and its end: ``a-broker`` is the way of worker (client, beat) ``a`` to its broker,
``a-backend`` that to its result backend, each with a port of its own. A way that is no link is direct.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.engine import apps
from pytest_celery_chaos.engine.plan import Moment
from pytest_celery_chaos.errors import UsageError
from pytest_celery_chaos.network.backend import BYTES, LinkProxy
from pytest_celery_chaos.system.sockets import owners
from pytest_celery_chaos.values import ProxyKind

if TYPE_CHECKING:
    from pytest_celery_chaos.brokers.server import RedisServer
    from pytest_celery_chaos.engine.plan import Plan, Step
    from pytest_celery_chaos.history.event import Event
    from pytest_celery_chaos.network.armed import Armed
    from pytest_celery_chaos.network.proxy import Proxy
    from pytest_celery_chaos.system.engine import Engine
    from pytest_celery_chaos.system.keeper import Child, Keeper

End = Literal["broker", "backend"]
ENDS: Final[Sequence[End]] = ("broker", "backend")
#: What a link of the test's own process begins with, where a test uses its application in itself.
TEST: Final = "test"


def name_of(process: str, end: str) -> str:
    """The name of a link: ``a-broker``."""
    return f"{process}-{end}"


class Links:
    """The links of one run, and the proxy process behind them; without links there is none.

    :param broker: one of the run's servers, by name.
    :param preferred: the proxy of a plan that leaves it open and does nothing that only the other one can do.
    :param engine: where Toxiproxy runs in containers; None: it is a process.
    :param on_death: called when a proxy has ended before :meth:`close`, on the keeper's thread.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        keeper: Keeper,
        folder: Path,
        control: Path,
        broker: Callable[[str], RedisServer],
        preferred: ProxyKind,
        engine: Callable[[], Engine | None],
        on_death: Callable[[Child], None],
    ) -> None:
        self._plan, self._keeper, self._folder, self._control = plan, keeper, folder, control
        self._broker, self._on_death = broker, on_death
        self._preferred, self._engine = preferred, engine
        self._proxy: LinkProxy | None = None
        self._ends: dict[str, tuple[str, str]] = {}  # of each link its process (`worker:a`) and its server
        self._naming: dict[str, Naming] = {}
        self._rules: list[Armed] = []
        self._closing = False

    def start(self) -> None:
        """Start the proxy, if the plan has links, and listen for each of them; the servers have their ports by now.

        :raises UsageError: a link's process does not exist, or its name is that of two.
        """
        if not self._plan.links:
            return
        found = {name: self._place(name) for name in self._plan.links}
        self._proxy = self._resp() if self.kind == "resp" else self._toxiproxy()
        for name, (source, server, naming) in found.items():
            behind = self._broker(server)
            tls = {"ca": str(behind.certificates.ca)} if behind.certificates else None
            self._proxy.link(name, (behind.host, behind.port), naming=naming, tls=tls)
            self._ends[name], self._naming[name] = (source, server), naming

    @property
    def kind(self) -> ProxyKind:
        """What the links go through: what the plan says; else what is preferred, where that can do all its steps."""
        if self._plan.proxy is not None:
            return self._plan.proxy
        return self._preferred if all(_of_bytes(step) for step in self._plan.steps) else "resp"

    @property
    def proxy(self) -> Proxy:
        """The RESP-aware proxy of a run with links.

        :raises UsageError: the run has no links, or they go through Toxiproxy.
        """
        from pytest_celery_chaos.network.proxy import Proxy

        if not isinstance(self.bending, Proxy):
            raise UsageError("the links of this run go through Toxiproxy, which bends bytes alone", hint=_RESP)
        return self.bending

    @property
    def bending(self) -> LinkProxy:
        """The proxy of a run with links, whichever it is, for faults of bytes.

        :raises UsageError: the run has none.
        """
        if self._proxy is None:
            raise UsageError("this run has no links", hint=_DECLARE)
        return self._proxy

    @property
    def dead(self) -> bool:
        """Whether a proxy has ended before :meth:`close`."""
        return self._proxy is not None and not self._closing and not self._proxy.alive

    @property
    def children(self) -> Sequence[Child]:
        """The proxy's processes."""
        return self._proxy.children if self._proxy else ()

    def known(self, names: Sequence[str]) -> Sequence[str]:
        """*names*, each of which must be a link of this run.

        :raises UsageError: one of them is not; it says how to declare it.
        """
        for name in names:
            if name not in self._ends:
                raise UsageError(
                    f"there is no link {name!r}; links here: {', '.join(self._ends) or 'none'}", hint=_DECLARE
                )
        return names

    def url(self, source: str, end: End, server: str, db: int) -> str:
        """The address by which a process reaches a server's database: through its link, or directly."""
        name = name_of(source.partition(":")[2], end)
        if self._ends.get(name) == (source, server):
            return self._broker(server).tcp_url(db, port=self.bending.port(name), tls=self.kind == "toxiproxy")
        return self._broker(server).url(db)

    def adopt(self, ready: Event, spaces: Mapping[str, Any]) -> None:
        """Learn from a worker that is ready by which names the keys are called on the links of its application."""
        queues = set(ready.attrs.get("queues") or ())
        mine = spaces[ready.source]
        for name, (source, _) in self._ends.items():
            space = spaces.get(source, mine)
            if space.messages[:2] != mine.messages[:2]:
                continue
            old = self._naming[name]
            new = replace(
                old,
                queues=sorted({*old.queues, *queues}),
                prefix=space.prefix or old.prefix,
                backend_prefix=space.result_prefix or old.backend_prefix,
            )
            if new != old:
                self._naming[name] = new
                self.bending.rename(name, new)

    # -- whose a connection is ------------------------------------------------------------------------------------

    def ends(self) -> dict[tuple[int, int], str]:
        """What both ends of each connection through a link are called (see :meth:`LinkProxy.ends`); nothing without a
        proxy."""
        return self._proxy.ends() if self._proxy is not None and self._proxy.alive else {}

    def owners(self, server: str, processes: Mapping[int, str]) -> dict[int, str]:
        """By its port as the server sees it, whose each connection to a server is, directly or through a link.

        :param processes: by process id, its source (``worker:a``).
        """
        port = self._broker(server).port
        found = owners(port, processes)
        if self._proxy is not None and self._proxy.alive:
            living = set(processes.values())
            there = {name: source for name, (source, to) in self._ends.items() if to == server and source in living}
            found |= self._proxy.owners(port, there)
        return found

    # -- rules ----------------------------------------------------------------------------------------------------

    def arm(self, do: str, **what: Any) -> Armed:
        """Arm a rule in the proxy (see :meth:`Proxy.arm`)."""
        armed = self.proxy.arm(do, **what)
        self._rules.append(armed)
        return armed

    def disarm(self, armed: Armed) -> int:
        """Disarm a rule; on how many commands it has acted."""
        if armed in self._rules:
            self._rules.remove(armed)
        return int(armed.disarm()["acted"])

    def unused(self) -> bool:
        """Whether a rule is armed that has not acted yet."""
        return any(not rule.state()["acted"] for rule in self._rules)

    def close(self) -> None:
        """End the proxy, after everybody who is connected through it."""
        self._closing = True
        if self._proxy is not None:
            self._proxy.close()

    def _resp(self) -> LinkProxy:
        from pytest_celery_chaos.network.proxy import Proxy

        logs, ledgers = self._folder / "logs", self._folder / "ledgers"
        return Proxy(self._keeper, logs, ledgers, control=self._control, on_exit=self._died)

    def _toxiproxy(self) -> LinkProxy:
        from pytest_celery_chaos.network.toxiproxy import Toxiproxy

        return Toxiproxy(self._keeper, self._folder / "logs", engine=self._engine(), on_exit=self._died)

    def _died(self, child: Child) -> None:
        if not self._closing:
            self._on_death(child)

    def _place(self, name: str) -> tuple[str, str, Naming]:
        """Of a link: its process, its server, and by which names its application's keys are called."""
        process, _, end = name.rpartition("-")
        known = {
            **apps.processes(self._plan),
            f"client:{TEST}": (apps.MAIN, {}),
        }
        sources = [source for source in known if source.partition(":")[2] == process]
        if len(sources) != 1 or end not in ENDS:
            what = f"{' and '.join(sources)} have one name" if len(sources) > 1 else "no such process"
            there = ", ".join(name_of(each.partition(":")[2], "broker") for each in known)
            raise UsageError(f"no link can be called {name!r}: {what}", hint=f"for example {there}")
        app, own = known[sources[0]]
        space = apps.keyspace_of(self._plan, app, own)
        config = apps.config_of(self._plan, app, own)
        queues: Collection[str] = {str(config.get("task_default_queue") or "celery"), *self._plan.queues}
        naming = Naming.of(config, sorted(queues))
        return sources[0], space.broker if end == "broker" else space.backend, naming


def _of_bytes(step: Step) -> bool:
    """Whether a step asks nothing of a link that Toxiproxy could not do."""
    moments = [each for each in (step.when, *step.args.values()) if isinstance(each, Moment)]
    if any(moment.link is not None for moment in moments):
        return False
    return "link" not in step.args or (step.verb in BYTES and step.args.get("how") != "rst")


_RESP: Final = "say proxy: resp (a test: @pytest.mark.chaos(links=…, proxy='resp'))"
_DECLARE: Final = "in a file the steps' `link:` says it; a test declares it: @pytest.mark.chaos(links=['a-broker'])"
