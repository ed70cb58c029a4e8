"""Real Toxiproxy behind a run's links, through toxiproxy-python: the faults of bytes, and none that knows Redis.

Each link has a server process of its own: whose a connection to Redis is can then be told by who has it open, which
Toxiproxy does not say itself. Its server: https://github.com/Shopify/toxiproxy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.errors import KeeperGone, ProxyGone, ServerNotFound, UsageError
from pytest_celery_chaos.network.backend import START_SECONDS, How, known_links, known_toxic
from pytest_celery_chaos.system import ports, sockets, wait
from pytest_celery_chaos.system.contained import remove, start
from pytest_celery_chaos.system.engine import engine_errors

if TYPE_CHECKING:
    from pytest_celery_chaos.system.engine import Engine
    from pytest_celery_chaos.system.keeper import Child, Keeper

#: Names the server's binary; without it `toxiproxy-server` is looked for on PATH.
ENVIRONMENT: Final = "CELERY_CHAOS_TOXIPROXY"
BINARY: Final = "toxiproxy-server"
#: Toxiproxy's own image, of the version whose behaviour the tests are held to.
IMAGE: Final = "ghcr.io/shopify/toxiproxy:2.5.0"
#: toxiproxy-python keeps the address of the one server that it talks to in a class.
_API: Final = threading.Lock()


def _need_client() -> None:
    try:
        import toxiproxy  # noqa: F401
    except ImportError:
        raise ServerNotFound(
            "toxiproxy-python is not installed", hint="pip install 'pytest-celery-chaos[toxiproxy]'"
        ) from None


def find() -> str:
    """The path of the server's binary.

    :raises ServerNotFound: there is none, or toxiproxy-python is not installed.
    """
    _need_client()
    named = os.environ.get(ENVIRONMENT)
    path = shutil.which(named or BINARY)
    if path is None:
        raise ServerNotFound(
            f"{named} of {ENVIRONMENT} cannot be run" if named else f"{BINARY} is not on PATH",
            hint=f"install it (https://github.com/Shopify/toxiproxy), or name it in {ENVIRONMENT}; "
            "the RESP-aware proxy needs no installation: chaos_proxy = resp",
        )
    return path


@dataclass
class _Server:
    """The process of one link."""

    child: Child
    api: int
    port: int
    to: int
    container: Any
    proxy: Any = None


class Toxiproxy:
    """Toxiproxy's servers, one for each link; none yet.

    :param keeper: spawns them, and ends them when the harness dies.
    :param folder: their logs, ``toxiproxy-LINK.log``, are written there.
    :param engine: where each runs in a container of its own (:data:`IMAGE`), on this machine's network; None: as
        processes.
    :param on_exit: called on the keeper's thread when one has ended.
    :raises ServerNotFound: see :func:`find`.
    """

    def __init__(
        self,
        keeper: Keeper,
        folder: Path,
        *,
        engine: Engine | None = None,
        on_exit: Callable[[Child], None] | None = None,
    ) -> None:
        self._keeper, self._folder, self._engine, self._on_exit = keeper, folder, engine, on_exit
        if engine is None:
            self._binary = find()
        else:
            _need_client()
            engine.need(IMAGE, "proxy")
        self._servers: dict[str, _Server] = {}

    def __enter__(self) -> Toxiproxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def children(self) -> Sequence[Child]:
        return [server.child for server in self._servers.values()]

    @property
    def alive(self) -> bool:
        return all(child.alive for child in self.children)

    # Links

    def link(
        self,
        name: str,
        upstream: tuple[str, int],
        *,
        naming: Naming | None = None,
        tls: Mapping[str, Any] | None = None,
    ) -> int:
        """Start a server that listens on a port of loopback for what is to reach *upstream*; returns the port.

        :param naming: by which names keys are called: nothing that Toxiproxy could know.
        :param tls: what speaks it is the client; here it passes.
        :raises ProxyGone: the server has ended instead of starting.
        """
        if name in self._servers:
            raise UsageError(f"there is a link {name!r} already")
        api, port = ports.free_port(), ports.free_port()
        log = self._folder / f"toxiproxy-{name}.log"
        child, container = self._start(f"toxiproxy:{name}", ["-host", "127.0.0.1", "-port", str(api)], log)
        server = self._servers[name] = _Server(child, api, port, upstream[1], container)

        def answers() -> bool:
            if not child.alive:
                raise self._gone(name)
            with self._asking(name) as toxiproxy:
                return bool(toxiproxy.running())

        wait.until(answers, what=f"Toxiproxy to take orders for {name}", timeout=START_SECONDS, every=0.005)
        with self._asking(name) as toxiproxy:
            server.proxy = toxiproxy.create(f"{upstream[0]}:{upstream[1]}", name, listen=f"127.0.0.1:{port}")
        return port

    def _start(self, name: str, options: Sequence[str], log: Path) -> tuple[Child, Any]:
        """Start a server: its process, and the container that it is in, if it is in one."""
        if self._engine is None:
            environment = {"PATH": os.environ.get("PATH", os.defpath)}
            argv = [self._binary, *options]
            child = self._keeper.spawn(name, argv, env=environment, cwd=self._folder, log=log, on_exit=self._on_exit)
            return child, None
        with engine_errors("its container cannot be started", where=name, hint="see the engine's own words"):
            container = self._engine.testcontainers.create(
                IMAGE, command=list(options), labels=self._engine.labels, network="host"
            )
            return start(container, name, options, log=log, on_exit=self._on_exit), container

    def rename(self, name: str, naming: Naming) -> None:
        """Nothing to do: Toxiproxy does not look into what it forwards."""

    def port(self, name: str) -> int:
        self._known([name])
        return self._servers[name].port

    # Faults of bytes

    def toxic(
        self,
        type: str,
        *,
        links: Sequence[str] | None = None,
        name: str | None = None,
        stream: Literal["upstream", "downstream"] = "downstream",
        toxicity: float = 1.0,
        **attributes: float,
    ) -> str:
        """Add a toxic; see :meth:`pytest_celery_chaos.network.proxy.Proxy.toxic`.

        :returns: its name, for :meth:`remove_toxic`.
        """
        known_toxic(type, stream, attributes)
        name = name or f"{type}_{stream}"
        whole = {attribute: round(value) for attribute, value in attributes.items()}  # its server takes integers
        for link in self._known(links):
            with self._asking(link):
                self._servers[link].proxy.add_toxic(
                    type=type, name=name, stream=stream, toxicity=toxicity, attributes=whole
                )
        return name

    def remove_toxic(self, name: str, *, links: Sequence[str] | None = None) -> None:
        for link in self._known(links):
            with self._asking(link):
                self._servers[link].proxy.destroy_toxic(name)

    def down(self, *, links: Sequence[str] | None = None, how: How | None = None) -> None:
        """Refuse connections, and close those that there are (Toxiproxy's ``enabled: false``).

        :raises UsageError: a reset was asked for, which Toxiproxy cannot give to all connections at once.
        """
        if how == "rst":
            raise UsageError("Toxiproxy closes connections, it does not reset them", hint="how: fin, or proxy: resp")
        for link in self._known(links):
            with self._asking(link):
                self._servers[link].proxy.disable()

    def up(self, *, links: Sequence[str] | None = None) -> None:
        """Accept connections again, on the same port."""
        for link in self._known(links):
            with self._asking(link) as toxiproxy:
                self._servers[link].proxy.enable()
                if not toxiproxy.get_proxy(link).enabled:  # toxiproxy-python is silent about it
                    raise UsageError("Toxiproxy does not listen again: its port is taken", where=f"link {link}")

    # Whose a connection is

    def owners(self, server: int, links: Mapping[str, str]) -> dict[int, str]:
        """By its port as the server sees it, whose each connection to a server is that goes through a link.

        :param server: the port of the server.
        :param links: of each link in question whose it is (``worker:a``).
        """
        there = {self._servers[link].child.pid: source for link, source in links.items()}
        return sockets.owners(server, there)

    def ends(self) -> dict[tuple[int, int], str]:
        """See :meth:`pytest_celery_chaos.network.backend.LinkProxy.ends`; the name is that of the link alone."""
        found: dict[tuple[int, int], str] = {}
        for link, server in self._servers.items():
            found |= {(own, server.port): link for own in sockets.ports_to(server.port)}
        whose = {server.child.pid: link for link, server in self._servers.items()}
        for to in {server.to for server in self._servers.values()}:
            found |= {(own, to): link for own, link in sockets.owners(to, whose).items()}
        return found

    def close(self) -> None:
        """End the servers and let go of their ports. Idempotent."""
        for server in self._servers.values():
            if server.container is not None:
                remove(server.container, server.child)
            else:
                with contextlib.suppress(KeeperGone):
                    if server.child.alive:
                        self._keeper.end(server.child)
            for port in (server.api, server.port):
                ports.release_port(port)
        self._servers.clear()

    @contextlib.contextmanager
    def _asking(self, link: str) -> Iterator[Any]:
        """toxiproxy-python, talking to the server of a link.

        :raises ProxyGone: that server has died.
        :raises UsageError: it will not do what it was asked for; with its reason.
        """
        import requests
        from toxiproxy import Toxiproxy as Client
        from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

        client = Client()
        with _API:
            client.update_api_consumer("127.0.0.1", self._servers[link].api)
            try:
                yield client
            except requests.ConnectionError:
                raise self._gone(link) from None
            except (InvalidToxic, NotFound, ProxyExists, KeyError) as error:
                raise UsageError(f"Toxiproxy refuses: {error}", where=f"link {link}") from None

    def _known(self, links: Sequence[str] | None) -> Sequence[str]:
        """*links*; None: all."""
        known_links(links, self._servers)
        return links or list(self._servers)

    def _gone(self, link: str) -> ProxyGone:
        server = self._servers[link]
        return ProxyGone(f"Toxiproxy of {link} has died ({server.child.exit or 'its port is closed'})")
