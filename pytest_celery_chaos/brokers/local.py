"""A Redis or Valkey server as a process of this machine: started, broken and started again, on one port."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal as signals
import socket as sockets
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.brokers.spec import BrokerSpec, Server
from pytest_celery_chaos.errors import KeeperGone, StartFailed, UsageError
from pytest_celery_chaos.system import ports, wait

if TYPE_CHECKING:
    from redis import Redis

    from pytest_celery_chaos.system.keeper import Child, Keeper

#: Seconds between two PINGs. A server needs 2 ms to its first PONG, so that asking seldom would cost as much again.
_EVERY = 0.0002
_LOG_LINES = 15
#: Seconds that a server which loads data may take to answer: it looks for clients now and then.
_LOADING = 10.0

#: The harness's own user (ACL): its connections go on whatever a fault does to the password and the rights of others.
OWN_USER = "celery-chaos"

OnExit = Callable[["Child", bool], None]


class LocalServer:
    """One server of a scenario. Each start is a new process; port, socket, password and data folder stay.

    :param spec: what the scenario says of it.
    :param keeper: spawns it, and ends it when the harness dies.
    :param folder: of the run, for this server; its data lives in ``data`` below it.
    :param log: file that its output is appended to, over all starts.
    :param on_exit: called with the process and whether its end was asked for (a stop, kill or restart of ours), on
        the thread that reads the keeper: it must be quick.
    :raises ServerNotFound: no binary for the spec.
    :raises UsageError: an option of the spec that cannot be.
    """

    def __init__(
        self, spec: BrokerSpec, keeper: Keeper, folder: Path, log: Path, *, on_exit: OnExit | None = None
    ) -> None:
        config.check(spec)
        self.spec, self.name = spec, spec.name
        self.binary = find(spec.server, spec.version, spec.path)
        self.server: Server = self.binary.server
        self.version = self.binary.version
        self.password = secrets.token_hex(16) if spec.password else None
        self._own_password = secrets.token_hex(16) if self._has_users() else None
        self.data, self.log = folder.absolute() / "data", log.absolute()
        self.child: Child | None = None
        self.on_exit = on_exit
        self._keeper = keeper
        self._asked: set[int] = set()

    def __repr__(self) -> str:
        return f"<LocalServer {self.name}: {self.server} {self.version}, {'up' if self.alive else 'down'}>"

    @cached_property
    def port(self) -> int:
        """On 127.0.0.1; reserved when first asked for."""
        return ports.free_port()

    @cached_property
    def _folder(self) -> Path:
        return self._keeper.temp_folder()

    @property
    def socket_path(self) -> Path:
        """Every server has a unix socket, whether clients use it or not."""
        return self._folder / f"{self.port}.sock"

    @property
    def alive(self) -> bool:
        """Whether its process is there; a paused one is."""
        return self.child is not None and self.child.alive

    def url(self, db: int) -> str:
        """For ``broker_url`` and ``result_backend``, with the password: never into a log or a report."""
        if self.spec.socket:
            return f"redis+socket://{self._user}{quote(str(self.socket_path))}?virtual_host={db}"
        return self.tcp_url(db)

    def tcp_url(self, db: int, *, port: int | None = None) -> str:
        """The same over TCP, which every server listens to, for what takes no socket, or goes by another *port*."""
        return f"redis://{self._user}127.0.0.1:{port or self.port}/{db}"

    def client(self, db: int, **options: Any) -> Redis:
        """A client of the harness's own. It answers in bytes, and raises instead of hanging on a paused server.

        Bytes, since a body need not be text. Time-outs are 2 s and nothing is tried again, so that an error is seen
        when it happens. Any option of ``redis.Redis`` may be given: ``socket_timeout``, ``decode_responses`` …
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        address: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if self.spec.socket:
            address = {"unix_socket_path": str(self.socket_path)}
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
        self.data.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = self.log.stat().st_size if self.log.exists() else 0
        child = self.child = self._keeper.spawn(
            f"broker:{self.name}",
            [str(self.binary.path), str(self._config_file()), *arguments],
            env=os.environ,
            cwd=self.data,
            log=self.log,
            on_exit=self._exited,
        )
        said = "nothing"

        def ready() -> bool | None:
            nonlocal said
            if child.exit is not None:
                raise StartFailed(
                    f"{self.server} {self.version} has ended ({child.exit}) instead of starting; its log ends:\n"
                    f"{self._log_end(begin)}",
                    where=f"broker {self.name}",
                    hint="correct the broker's options, or free what the log names",
                )
            said = self.ping(1.0 if answers == "+PONG" else _LOADING)
            return True if said.startswith((answers, "+PONG")) else None

        try:
            wait.until(
                ready, what=f"broker {self.name} to answer PING", timeout=timeout, last=lambda: said, every=_EVERY
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
            with sockets.socket(sockets.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(str(self.socket_path))
                connection.sendall(f"{auth}PING\r\n".encode())
                with connection.makefile("r", encoding="utf-8", errors="replace", newline="\r\n") as answers:
                    first = answers.readline().strip()
                    return answers.readline().strip() if auth and first == "+OK" else first
        except OSError as error:
            return str(error)

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal. SIGKILL goes to its whole group, as a machine's end would; it returns when all are gone.

        A child that writes a snapshot dies with it: it could bring back data that a restart is to lose.
        """
        child = self._running("kill")
        if signal in (signals.SIGKILL, signals.SIGTERM, signals.SIGINT):
            self._asked.add(child.pid)
        child.signal(signal, group=signal == signals.SIGKILL)
        if signal == signals.SIGKILL:
            self._keeper.end(child)

    def stop(self, timeout: float = 15.0) -> None:
        """End it in its own good time: SIGTERM, on which it saves if it has save points. A paused one is resumed.

        :param timeout: seconds; it ignores the signal while it cannot save.
        :raises WaitExpired: it is still there.
        """
        child = self._running("stop")
        self._asked.add(child.pid)
        child.signal(signals.SIGTERM)
        child.signal(signals.SIGCONT)  # after TERM, so that a paused one goes on only to end
        child.wait(timeout)

    def pause(self) -> None:
        """Freeze it (SIGSTOP) and return when it stands: the kernel still accepts connections, nobody answers."""
        child = self._running("pause")
        child.signal(signals.SIGSTOP)
        wait.until(lambda: self.paused or None, what=f"broker {self.name} to stand still", timeout=5.0, every=_EVERY)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        child = self._running("resume")
        child.signal(signals.SIGCONT)
        wait.until(lambda: not self.paused or None, what=f"broker {self.name} to go on", timeout=5.0, every=_EVERY)

    @property
    def paused(self) -> bool:
        """Whether the kernel says that it is stopped."""
        return self.child is not None and self.child.state() == "stopped"

    def restart(self, data: Literal["keep", "lose"] = "keep", *, timeout: float = 30.0) -> None:
        """Stop it, if it runs, and start it on the same port.

        :param data: ``keep`` leaves the data folder, that is, what its persistence has saved; ``lose`` wipes it.
        """
        if data not in ("keep", "lose"):
            raise UsageError(f"restart with data {data!r}", hint="`keep` or `lose`")
        if self.alive:
            self.stop()
        elif self.child is not None:
            self._keeper.end(self.child)  # one that died by itself may have left the writer of a snapshot
        if data == "lose":
            shutil.rmtree(self.data, ignore_errors=True)
        self.start(timeout)

    def close(self) -> None:
        """End it, if it runs, and let go of its port, socket and configuration. Idempotent; data and log stay."""
        if self.child is not None:
            self._asked.add(self.child.pid)
            with contextlib.suppress(KeeperGone):  # it has ended all itself
                self._keeper.end(self.child)
        if "_folder" in self.__dict__:
            with contextlib.suppress(KeeperGone):
                self._keeper.remove_folder(self._folder)
            del self._folder
        if "port" in self.__dict__:
            ports.release_port(self.port)
            del self.port

    @property
    def _user(self) -> str:
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def _has_users(self) -> bool:
        """Whether a user can be given to it in its configuration: from Redis 6 on, without a file of users."""
        return int(self.version.partition(".")[0]) >= 6 and not any(o.lower() == "aclfile" for o in self.spec.options)

    def _running(self, verb: str) -> Child:
        if self.child is None or not self.child.alive:
            raise UsageError(f"cannot {verb} broker {self.name}: it is not running", hint="start it first")
        return self.child

    def _config_file(self) -> Path:
        """Written once: what CONFIG REWRITE has changed outlives a restart, as it does on a real server."""
        path = self._folder / f"{self.port}.conf"
        if not path.exists():
            text = config.text(
                self.spec,
                port=self.port,
                socket=self.socket_path,
                folder=self.data,
                password=self.password,
                own=(OWN_USER, self._own_password) if self._own_password else None,
            )
            # Holds the password, which is why it is neither in the run's folder nor on the command line.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def _exited(self, child: Child) -> None:
        if self.on_exit is not None:
            self.on_exit(child, child.pid in self._asked)

    def _log_end(self, begin: int) -> str:
        with self.log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode("utf-8", "replace").splitlines()
        text = "\n".join(lines[-_LOG_LINES:]) or "(it is empty)"
        for secret in filter(None, (self.password, self._own_password)):
            text = text.replace(secret, "***")
        return text
