"""The harness's side of the RESP-aware proxy: links, rules, faults of bytes, and what it has seen.

The other side is :mod:`pytest_celery_chaos.network.proxy_main`. One proxy serves all links of a run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers import wire
from pytest_celery_chaos.brokers.roles import Naming
from pytest_celery_chaos.errors import KeeperGone, ProxyGone, UsageError, WaitExpired
from pytest_celery_chaos.history.wire import ROLES
from pytest_celery_chaos.network.armed import Armed
from pytest_celery_chaos.network.backend import START_SECONDS, How, known_links, known_toxic, one_of
from pytest_celery_chaos.network.rules import ACTIONS, WHEN
from pytest_celery_chaos.system import ports, wait

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child, Keeper

Stream = Literal["upstream", "downstream", "both"]
Side = Literal["both", "client", "server"]
Links = Sequence[str] | None
#: The path of a unix socket, or host and port.
Upstream = str | Path | tuple[str, int]

#: Seconds that the proxy may take to answer; it takes milliseconds.
ANSWER_SECONDS: Final = 10.0
_START: Final = """
import sys
sys.path.append(sys.argv.pop(1))
from pytest_celery_chaos.network import proxy_main
proxy_main.main()
"""
_ROOT: Final = str(Path(__file__).parents[2])


class Proxy:
    """A proxy process without links.

    :param keeper: spawns it, and ends it when the harness dies.
    :param folder: its log, ``proxy.log``, is written there.
    :param ledgers: where the links write their ledgers; None: they write none.
    :param control: the folder of :class:`engine.gate.Gate`, made before, whose moments the links are held at.
    :param on_exit: called on the keeper's thread when it has ended.
    :raises WaitExpired: it does not answer.
    """

    def __init__(
        self,
        keeper: Keeper,
        folder: Path,
        ledgers: Path | None = None,
        *,
        control: Path | None = None,
        on_exit: Callable[[Child], None] | None = None,
    ) -> None:
        self._keeper, self._lock, self._numbers = keeper, threading.Lock(), itertools.count(1)
        self._folder = keeper.temp_folder()
        self.log = folder / "proxy.log"
        self._ports: dict[str, int] = {}
        self._connection = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        path = str(self._folder / "proxy.sock")
        given = [os.fspath(each.absolute()) if each else "" for each in (ledgers, control)]
        self.child = keeper.spawn(
            "proxy",
            [sys.executable, "-I", "-S", "-c", _START, _ROOT, path, *given],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=self._folder,
            log=self.log,
            on_exit=on_exit,
        )

        def connected() -> bool:
            if not self.child.alive:
                raise self._gone()
            try:
                self._connection.connect(path)
            except OSError:
                return False
            return True

        wait.until(connected, what="the proxy to take orders", timeout=START_SECONDS, last=self._said, every=0.002)
        self.ask("hello")

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self.child.alive

    @property
    def children(self) -> Sequence[Child]:
        return [self.child]

    # Links

    def link(
        self, name: str, upstream: Upstream, *, naming: Naming | None = None, tls: Mapping[str, Any] | None = None
    ) -> int:
        """Listen on a port of loopback for what is to reach *upstream*; its events are of ``link:NAME``.

        :param upstream: the path of a unix socket (fastest; but then CLIENT LIST cannot tell whose a connection is),
            or host and port.
        :param naming: by which names the application's keys are called.
        :param tls: the server speaks TLS: ``ca``, ``cert``, ``key`` (files), ``verify``, ``hostname`` (booleans). The
            client's side is plain.
        :returns: the port; it stays the link's own until :meth:`unlink`.
        """
        if name in self._ports:
            raise UsageError(f"there is a link {name!r} already")
        port = ports.free_port()
        to = list(upstream) if isinstance(upstream, tuple) else os.fspath(upstream)
        names = wire.record(naming or Naming())
        self.ask("link", name=name, port=port, upstream=to, tls=None if tls is None else dict(tls), names=names)
        self._ports[name] = port
        return port

    def unlink(self, name: str) -> None:
        """End a link and its connections, and let go of its port."""
        self._known([name])
        self.ask("unlink", name=name)
        ports.release_port(self._ports.pop(name))

    def rename(self, name: str, naming: Naming) -> None:
        """By which names the application's keys are called, once that is known (its queues, at ``ready``)."""
        self._known([name])
        self.ask("names", name=name, names=wire.record(naming))

    def port(self, name: str) -> int:
        self._known([name])
        return self._ports[name]

    # Rules

    def arm(
        self,
        do: str,
        *,
        links: Links = None,
        when: str = "request",
        role: str | None = None,
        command: str | None = None,
        key: str | None = None,
        db: int | None = None,
        multi: bool | None = None,
        task: str | None = None,
        name: str | None = None,
        contains: str | None = None,
        nth: int = 1,
        times: int | None = 1,
        seconds: float | None = None,
        how: How = "fin",
        side: Side = "both",
        answer: str | bytes | None = None,
        deadline: float = 30.0,
    ) -> Armed:
        """From the next command on, do something to the units that are meant; each is an event ``wire_ROLE``.

        A reply rule means replies that are still due too, such as that of a BRPOP that waits.

        :param do: ``watch`` (only tell), ``hold`` (until released, the time is over, or the client is gone), ``delay``
            (for *seconds*), ``drop``, ``cut`` the connection, ``answer`` (instead of the server; of a transaction its
            EXEC), ``duplicate`` (the second reply is swallowed).
        :param links: names; None: all.
        :param when: ``request`` (before the server sees it), ``reply`` (before the client sees that), ``done`` (after).
        :param role: as in :data:`history.wire.ROLES`: a whole MULTI … EXEC is one unit, and acted on as one.
        :param command: one command by its name, also inside a transaction (its reply: that of EXEC).
        :param key: the first key, or channel; a glob.
        :param db: the database that is selected.
        :param multi: only in (True) or only outside (False) a transaction.
        :param task: the beginning of the id of the task that it is about; *name*, that task's name.
        :param contains: some bytes in what is known of it (16 KB of each argument, or of the reply).
        :param nth: the first that is acted on; *times*, how many are (None: all from then on).
        :param seconds: how long to hold or delay; without it a hold ends at *deadline*, which is told as such.
        :param how: a cut by ``fin`` or ``rst``; *side*: both, or only towards ``client`` or ``server``.
        :param answer: RESP: ``"-LOADING …\\r\\n"``; the end of the line is added to what has none.
        """
        one_of("do", do, ACTIONS)
        one_of("when", when, WHEN)
        if role is not None:
            one_of("role", role, ROLES)
        if do == "delay" and seconds is None:
            raise UsageError("a delay without `seconds`", hint="say how long")
        if do == "answer" and not answer:
            raise UsageError("no answer to give", hint='answer="-LOADING Redis is loading the dataset in memory"')
        if do == "duplicate" and when != "request":
            raise UsageError("only a request can be duplicated", hint='when="request"')
        self._known(links)
        text = answer.decode("latin-1") if isinstance(answer, bytes) else answer
        if text and not text.endswith("\r\n"):
            text += "\r\n"
        number = next(self._numbers)
        self.ask("arm", rule={
            "id": number, "do": do, "links": links and list(links), "when": when, "role": role, "command": command,
            "key": key, "db": db, "multi": multi, "task": task, "name": name, "contains": contains, "nth": nth,
            "times": times, "seconds": seconds, "how": how, "side": side, "answer": text, "deadline": deadline,
        })  # fmt: skip
        return Armed(self, number, f"{do} {role or command or 'anything'} ({when})")

    # Faults of bytes

    def toxic(
        self,
        type: str,
        *,
        links: Links = None,
        name: str | None = None,
        stream: Literal["upstream", "downstream"] = "downstream",
        toxicity: float = 1.0,
        **attributes: float,
    ) -> str:
        """Add a toxic, by Toxiproxy's names and attributes; it falls on the connections that there are, and new ones.

        :param stream: ``upstream`` is towards the server.
        :param toxicity: the share of connections that it falls on.
        :returns: its name, for :meth:`remove_toxic`; by default ``TYPE_STREAM``.
        """
        known_toxic(type, stream, attributes)
        self._known(links)
        name = name or f"{type}_{stream}"
        toxic = {"name": name, "type": type, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        self.ask("toxic", links=links and list(links), toxic=toxic)
        return name

    def remove_toxic(self, name: str, *, links: Links = None) -> None:
        """Take a toxic away. What it has held goes on (those that end connections, end them)."""
        self._known(links)
        self.ask("untoxic", links=links and list(links), name=name)

    def freeze(self, *, links: Links = None, stream: Stream = "both", old: bool = True, new: bool = False) -> None:
        """Forward nothing and keep the sockets open: the half-open connection. *old* connections, *new* ones, or both.

        Of a frozen connection nothing gets through either when one side ends it; that is seen at the thaw.
        """
        self._known(links)
        self.ask("freeze", links=links and list(links), stream=stream, new=new, old=old)

    def thaw(self, *, links: Links = None, stream: Stream = "both") -> None:
        """Let what is frozen go on, with all that has come meanwhile."""
        self._known(links)
        self.ask("thaw", links=links and list(links), stream=stream)

    def cut(
        self, *, links: Links = None, numbers: Sequence[int] | None = None, how: How = "rst", side: Side = "both"
    ) -> int:
        """End connections now; how many. *numbers*: only these, by their ``conn``."""
        self._known(links)
        given = None if numbers is None else list(numbers)
        return int(self.ask("cut", links=links and list(links), numbers=given, how=how, side=side)["cut"])

    def down(self, *, links: Links = None, how: How | None = None) -> None:
        """Refuse connections, and end those that there are, by ``rst`` unless *how* says ``fin``."""
        self._known(links)
        self.ask("down", links=links and list(links), how=how or "rst")

    def up(self, *, links: Links = None) -> None:
        """Accept connections again, on the same port."""
        self._known(links)
        self.ask("up", links=links and list(links))

    # What it has seen

    def timeline(self, roles: Sequence[str] | None = (), *, links: Links = None) -> None:
        """Write every unit down from now on: of these roles, of all (none named), or not any more (None)."""
        for role in roles or ():
            one_of("role", role, ROLES)
        self._known(links)
        self.ask("timeline", links=links and list(links), roles=None if roles is None else list(roles))

    def stats(self) -> dict[str, dict[str, Any]]:
        """By link: ``accepted``, ``refused``, ``open``, ``up``, ``units`` (by role), ``unknown`` (commands of no known
        role, with their first key, and how often), ``blind`` (connections that no RESP passes), ``rules``,
        ``holding`` (numbers of the rules and moments that hold something)."""
        return dict(self.ask("stats")["links"])

    def connections(self, *, links: Links = None) -> list[dict[str, Any]]:
        """The open ones: ``link``, ``conn``, ``client`` (its port), ``port`` (the link's, which it leads to),
        ``server`` (our port towards the server, which CLIENT LIST has as `addr`) and ``to`` (the server's; both None
        over a unix socket), ``db``, ``pending`` (replies due), ``frozen``, ``held``, ``blind``."""
        self._known(links)
        return list(self.ask("connections", links=links and list(links))["connections"])

    def owners(self, server: int, links: Mapping[str, str]) -> dict[int, str]:
        """See :meth:`pytest_celery_chaos.network.backend.LinkProxy.owners`; a link has one server only."""
        there = self.connections(links=list(links)) if links else []
        return {each["server"]: links[each["link"]] for each in there if each["server"] is not None}

    def ends(self) -> dict[tuple[int, int], str]:
        """See :meth:`pytest_celery_chaos.network.backend.LinkProxy.ends`."""
        found = {}
        for each in self.connections():
            for own, to in ((each["client"], each["port"]), (each["server"], each["to"])):
                if own is not None:
                    found[own, to] = f"{each['link']}-{each['conn']}"
        return found

    def close(self) -> None:
        """End the process and let go of the ports. Idempotent."""
        with contextlib.suppress(KeeperGone):
            if self.child.alive:
                self._keeper.end(self.child)
        self._connection.close()
        for port in self._ports.values():
            ports.release_port(port)
        self._ports.clear()
        with contextlib.suppress(KeeperGone):
            self._keeper.remove_folder(self._folder)

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Give an order of :mod:`proxy_main` and return its answer.

        :raises ProxyGone: it has died.
        :raises UsageError: it cannot be done; with the reason.
        :raises WaitExpired: it does not answer.
        """
        with self._lock:
            line = json.dumps({"n": next(self._numbers), "do": do, **what}).encode() + b"\n"
            self._connection.settimeout(ANSWER_SECONDS)
            try:
                self._connection.sendall(line)
                while b"\n" not in self._buffer:
                    data = self._connection.recv(1 << 16)
                    if not data:
                        raise self._gone()
                    self._buffer += data
            except TimeoutError:
                self._connection.close()  # a late answer would be taken for the next one's
                raise WaitExpired(f"the proxy's answer to {do!r}: nothing after {ANSWER_SECONDS:g} s") from None
            except OSError:
                raise self._gone() from None
            answer, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise UsageError(f"{do}: {found['error']}", where="proxy")
        return found

    def _known(self, links: Links) -> None:
        known_links(links, self._ports)

    def _gone(self) -> ProxyGone:
        return ProxyGone(f"the proxy has died ({self.child.exit or 'its socket is closed'})", hint=self._said())

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            if lines:
                return "its log ends:\n" + "\n".join(lines)
        return f"its log {self.log} is empty"
