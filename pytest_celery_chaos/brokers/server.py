"""A Redis or Valkey server of a scenario, wherever it runs: its addresses, its readiness, its restart."""

from __future__ import annotations

import contextlib
import secrets
import socket as sockets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.certificates import Certificates, issue
from pytest_celery_chaos.brokers.spec import BrokerSpec, Server
from pytest_celery_chaos.errors import KeeperGone, StartFailed, UsageError
from pytest_celery_chaos.system import ports, wait

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.system.keeper import Child, Keeper

_LOG_LINES = 15
#: Seconds that a server which loads data may take to answer: it looks for clients now and then.
_LOADING = 10.0

_CORRECT = "correct the broker's options, or free what the log names"
_NO_TLS = "this server was built without TLS: take Debian's redis-server or valkey-server, or `provider: container`"
#: The harness's own user (ACL): its connections go on whatever a fault does to the password and the rights of others.
OWN_USER = "celery-chaos"
#: Who the applications are on a server with `acl:`.
CELERY_USER = "celery"


def identity(info: Mapping[str, Any]) -> tuple[Server, str]:
    """What a server says of itself (INFO server), and in which version."""
    name: Server = "valkey" if "valkey_version" in info else "redis"
    return name, str(info[f"{name}_version"])


OnExit = Callable[["Child", bool], None]


class RedisServer(ABC):
    """One server of a scenario. Address, socket, password and data stay over its starts.

    :param spec: what the scenario says of it.
    :param keeper: ends it when the harness dies.
    :param log: file that its output is appended to, over all starts.
    :param on_exit: called at its end, and whether that was asked for (a stop, kill or restart of ours), on another
        thread: it must be quick.
    :raises UsageError: an option of the spec that cannot be.
    :ivar host: the address under which it is reached from here.
    """

    server: Server
    version: str
    host: str = "127.0.0.1"
    #: The address that it listens on, as its own configuration has it.
    bind: str = "127.0.0.1"
    #: Whether it runs in a container.
    contained: bool = False
    #: Seconds between two PINGs. A process needs 2 ms to its first PONG: asking seldom would cost as much again.
    every: float = 0.0002

    def __init__(self, spec: BrokerSpec, keeper: Keeper, log: Path, *, on_exit: OnExit | None = None) -> None:
        config.check(spec)
        self.spec, self.name, self.log = spec, spec.name, log.absolute()
        self.password = secrets.token_hex(16) if spec.password or spec.acl else None
        self._own_password = secrets.token_hex(16) if self._has_users() else None
        self.on_exit = on_exit
        self._keeper = keeper
        #: Lines of its configuration beside what the spec says, and arguments of each start: what it is to others.
        self.lines: Sequence[str] = ()
        self.arguments: Sequence[str] = ()

    def __repr__(self) -> str:
        up = "up" if self.alive else "down"
        return f"<{type(self).__name__} {self.name}: {self.server} {self.version}, {up}>"

    # What it is where it runs

    @property
    def about(self) -> dict[str, Any]:
        """What the history says of it."""
        return {"server": self.server, "version": self.version, "port": self.port}

    @property
    @abstractmethod
    def child(self) -> Child | None:
        """Its last start; None before the first."""

    @abstractmethod
    def _launch(self, arguments: Sequence[str]) -> Child:
        """Start it once, without waiting for an answer."""

    @abstractmethod
    def _lose_data(self) -> None:
        """Take away what it has stored; it does not run."""

    @abstractmethod
    def block(self, name: str) -> Callable[[], None]:
        """Put something in the place of a file among its data, which it can then not write: returns what undoes it."""

    @abstractmethod
    def kill(self, signal: int = ...) -> None:
        """Send a signal; by default SIGKILL, and return when it has ended."""

    @abstractmethod
    def stop(self, timeout: float = 15.0) -> None:
        """End it in its own good time: SIGTERM, on which it saves if it has save points. A paused one is resumed.

        :param timeout: seconds; it ignores the signal while it cannot save.
        :raises WaitExpired: it is still there.
        """

    @abstractmethod
    def pause(self) -> None:
        """Freeze it and return when it stands: the kernel still accepts connections, nobody answers."""

    @abstractmethod
    def resume(self) -> None:
        """Let a paused server go on."""

    @property
    @abstractmethod
    def paused(self) -> bool:
        """Whether it is frozen."""

    @abstractmethod
    def close(self) -> None:
        """End it, if it runs, and let go of all that it has. Idempotent; the log stays."""

    # What it is everywhere

    @property
    def alive(self) -> bool:
        """Whether it is there; a paused one is."""
        return self.child is not None and self.child.alive

    @cached_property
    def port(self) -> int:
        """The same inside and outside; reserved when first asked for."""
        return ports.free_port()

    @cached_property
    def _folder(self) -> Path:
        return self._keeper.temp_folder()

    @property
    def socket_path(self) -> Path:
        """Every server has a unix socket, whether clients use it or not."""
        return self._folder / f"{self.port}.sock"

    @property
    def peer_address(self) -> tuple[str, int]:
        """Under which other servers, and whom they tell of it, reach it: known before it runs."""
        return self.host, self.port

    def share_passwords(self, other: RedisServer) -> None:
        """Take over the passwords of *other*, whose place this one may take (before its first start)."""
        self.password, self._own_password = other.password, other._own_password

    def url(self, db: int) -> str:
        """For ``broker_url`` and ``result_backend``, with the password: never into a log or a report."""
        if self.spec.socket:
            return f"redis+socket://{self.user}{quote(str(self.socket_path))}?virtual_host={db}"
        return self.tcp_url(db)

    def tcp_url(self, db: int, *, port: int | None = None, tls: bool = True) -> str:
        """The same over TCP, which every server listens to, for what takes no socket, or goes by another *port* of
        this machine.

        :param tls: False where something on the way speaks TLS instead of the client.
        """
        at = f"{self.host}:{self.port}" if port is None else f"127.0.0.1:{port}"
        if self.certificates is not None and tls:
            ca = quote(str(self.certificates.ca), safe="")
            return f"rediss://{self.user}{at}/{db}?ssl_cert_reqs=required&ssl_ca_certs={ca}"
        return f"redis://{self.user}{at}/{db}"

    @cached_property
    def certificates(self) -> Certificates | None:
        """Made when first asked for; None: it speaks no TLS."""
        return self._issue(self._folder) if self.spec.tls else None

    def _issue(self, folder: Path, *, mode: int = 0o600) -> Certificates:
        """The authority lies beside the log: whoever runs for this run may read it, in a container too."""
        hosts = dict.fromkeys(("127.0.0.1", "localhost", self.peer_address[0]))
        return issue(list(hosts), self.log.with_suffix(".ca.pem"), folder, mode=mode)

    def client(self, db: int, **options: Any) -> Redis:
        """A client of the harness's own. It answers in bytes, and raises instead of hanging on a paused server.

        Bytes, since a body need not be text. Time-outs are 2 s and nothing is tried again, so that an error is seen
        when it happens. Any option of ``redis.Redis`` may be given: ``socket_timeout``, ``decode_responses`` …
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        address: dict[str, Any] = {"host": self.host, "port": self.port}
        if self.spec.socket:
            address = {"unix_socket_path": str(self.socket_path)}
        elif self.certificates is not None:
            address |= {"ssl": True, "ssl_ca_certs": str(self.certificates.ca), "ssl_cert_reqs": "required"}
        chosen: dict[str, Any] = {
            **({"username": OWN_USER} if self._own_password and "password" not in options else {}),
            "password": self._own_password or self.password,
            "socket_timeout": 2.0,
            "socket_connect_timeout": 2.0,
            "retry": Retry(NoBackoff(), 0),
            "client_name": "celery-chaos",  # tells our own connections from the workers' in CLIENT LIST
        }
        return Redis(db=db, **{**address, **chosen, **options})

    def start(self, timeout: float = 30.0, *, arguments: Sequence[str] = (), answers: str = "+PONG") -> None:
        """Start it and return once it has loaded its data and answers PING.

        :param timeout: seconds.
        :param arguments: of its command line, for this start alone.
        :param answers: how the answer to PING begins that is waited for; ``-LOADING`` does not wait for its data.
        :raises StartFailed: it ended before (the port is taken, an option is wrong); with the end of its log.
        :raises WaitExpired: it is there and does not answer.
        :raises UsageError: it is running already.
        """
        if self.alive:
            raise UsageError(f"broker {self.name} is running already", hint="stop or kill it first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = self.log.stat().st_size if self.log.exists() else 0
        child = self._launch(arguments)
        said = "nothing"

        def ready() -> bool | None:
            nonlocal said
            if child.exit is not None:
                end = self._log_end(begin)
                raise StartFailed(
                    f"{self.server} {self.version} has ended ({child.exit}) instead of starting; its log ends:\n{end}",
                    where=f"broker {self.name}",
                    hint=_NO_TLS if "TLS support" in end else _CORRECT,
                )
            said = self.ping(1.0 if answers == "+PONG" else _LOADING)
            return True if said.startswith((answers, "+PONG")) else None

        try:
            wait.until(
                ready, what=f"broker {self.name} to answer PING", timeout=timeout, last=lambda: said, every=self.every
            )
        except BaseException:
            if child.alive:
                self.kill()
            raise

    def ping(self, timeout: float = 1.0) -> str:
        """Its answer to PING through its unix socket, or the error's text.

        The socket lies in a folder of ours: it cannot be another server's answer, as it could on a port.
        """
        auth = f"AUTH {self.password}\r\n" if self.password else ""
        if self._own_password:
            auth = f"AUTH {OWN_USER} {self._own_password}\r\n"
        try:
            with self._connect(timeout) as connection:
                connection.sendall(f"{auth}PING\r\n".encode())
                with connection.makefile("r", encoding="utf-8", errors="replace", newline="\r\n") as answers:
                    first = answers.readline().strip()
                    return answers.readline().strip() if auth and first == "+OK" else first
        except OSError as error:
            return str(error)

    def _connect(self, timeout: float) -> sockets.socket:
        connection = sockets.socket(sockets.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(str(self.socket_path))
        except BaseException:
            connection.close()
            raise
        return connection

    def restart(self, data: Literal["keep", "lose"] = "keep", *, timeout: float = 30.0) -> None:
        """Stop it, if it runs, and start it on the same port.

        :param data: ``keep`` leaves what its persistence has saved; ``lose`` wipes it.
        """
        if data not in ("keep", "lose"):
            raise UsageError(f"restart with data {data!r}", hint="`keep` or `lose`")
        if self.alive:
            self.stop()
        else:
            self._bury()
        if data == "lose":
            self._lose_data()
        self.start(timeout)

    def recreate(self, data: Literal["keep", "lose"] = "lose", *, timeout: float = 30.0) -> None:
        """Kill it, if it runs, and put a new one in its place, as an orchestrator does.

        :param data: ``lose`` gives it an empty disk, ``keep`` what the one before has left there.
        """
        if self.alive:
            self.kill()
        self.restart(data, timeout=timeout)

    @abstractmethod
    def _bury(self) -> None:
        """End what a server that died by itself may have left."""

    def _let_go(self) -> None:
        """Remove its temporary folder, and let go of its port."""
        if "_folder" in self.__dict__:
            with contextlib.suppress(KeeperGone):  # it has removed all itself
                self._keeper.remove_folder(self._folder)
            del self._folder
            self.__dict__.pop("certificates", None)
        if "port" in self.__dict__:
            ports.release_port(self.port)
            del self.port

    @property
    def username(self) -> str:
        """Who clients of this server are (ACL)."""
        return CELERY_USER if self.spec.acl else "default"

    @property
    def user(self) -> str:
        """Name and password, as an address begins with them."""
        name = self.username if self.spec.acl else ""
        return f"{name}:{quote(self.password, safe='')}@" if self.password else ""

    def _has_users(self) -> bool:
        """Whether a user can be given to it in its configuration: from Redis 6 on, without a file of users."""
        return int(self.version.partition(".")[0]) >= 6 and not any(o.lower() == "aclfile" for o in self.spec.options)

    def _config_text(self, folder: Path) -> str:
        text = config.text(
            self.spec,
            bind=self.bind,
            port=self.port,
            socket=self.socket_path,
            folder=folder,
            password=self.password,
            own=(OWN_USER, self._own_password) if self._own_password else None,
            tls=self.certificates,
            user=(self.username, self.password) if self.spec.acl and self.password else None,
        )
        return text + "".join(f"{line}\n" for line in self.lines)

    def _not_running(self, verb: str) -> UsageError:
        return UsageError(f"cannot {verb} broker {self.name}: it is not running", hint="start it first")

    def _log_end(self, begin: int) -> str:
        with self.log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode("utf-8", "replace").splitlines()
        text = "\n".join(lines[-_LOG_LINES:]) or "(it is empty)"
        for secret in filter(None, (self.password, self._own_password)):
            text = text.replace(secret, "***")
        return text
