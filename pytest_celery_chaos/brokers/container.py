"""A Redis or Valkey server in a container: started, broken, started again and made anew, at one address.

It has an address of its own in the session's network, by which processes of this machine go where the engine is on this
machine. Elsewhere its port is published on 127.0.0.1: that ends in a process of the engine's, behind which a server
cannot tell whose a connection is.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal as signals
import socket as sockets
import ssl
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_celery_chaos.brokers.certificates import Certificates
from pytest_celery_chaos.brokers.server import OnExit, RedisServer, identity
from pytest_celery_chaos.brokers.spec import BrokerSpec, Server
from pytest_celery_chaos.errors import StartFailed
from pytest_celery_chaos.system.contained import Started, freeze, remove, start
from pytest_celery_chaos.system.engine import Engine, already_gone, engine_errors

if TYPE_CHECKING:
    from pytest_celery_chaos.system.keeper import Child, Keeper

#: The official images, and the version that is taken where none is asked for and none is there.
IMAGES: Final[dict[Server, tuple[str, str]]] = {"valkey": ("valkey/valkey", "8.1"), "redis": ("redis", "8.0")}
#: Where the official images keep their data.
DATA: Final = Path("/data")
_GONE_WITHIN: Final = 15.0
_ENDING: Final = (signals.SIGKILL, signals.SIGTERM, signals.SIGINT)


def image_of(spec: BrokerSpec, engine: Engine) -> str:
    """The image for a spec: the one it names, or the official one of its server and version.

    Without a version the newest that the engine has; without any, the one of :data:`IMAGES`.
    """
    if spec.image is not None:
        return spec.image
    repository, usual = IMAGES[spec.server]
    return f"{repository}:{spec.version or engine.newest(repository) or usual}"


class ContainerServer(RedisServer):
    """One server of a scenario. Each start is the same container, until :meth:`recreate` or losing the data.

    :param engine: of the session.
    :raises ServerNotFound: the image is not there and cannot be pulled.

    For the other parameters see :class:`RedisServer`.
    """

    bind = "0.0.0.0"
    contained = True
    every = 0.005

    def __init__(
        self, spec: BrokerSpec, keeper: Keeper, engine: Engine, log: Path, *, on_exit: OnExit | None = None
    ) -> None:
        self.server, self._engine = spec.server, engine
        self.image: str = engine.instead(image_of(spec, engine))
        tag = re.search(r":v?(\d+(\.\d+)*)[^/:]*$", self.image)  # not the port of a registry
        self.version = tag[1] if tag else "unknown"  # until it has been asked
        super().__init__(spec, keeper, log, on_exit=on_exit)
        self._container: Any = None
        self._volume: Any = None
        self._child: Started | None = None
        self._asked: set[Child] = set()

    @property
    def about(self) -> dict[str, Any]:
        return {**super().about, "image": self.image}

    @property
    def child(self) -> Started | None:
        return self._child

    @cached_property
    def address(self) -> str:
        """In the session's network; it stays over restarts, and when the container is made anew."""
        return str(self._engine.address())

    @property
    def host(self) -> str:  # type: ignore[override]
        """By which address this machine reaches it: known before it runs."""
        return self.address if self._engine.direct else "127.0.0.1"

    @property
    def peer_address(self) -> tuple[str, int]:
        return self.address, self.port

    def start(self, timeout: float = 30.0, *, arguments: Sequence[str] = (), answers: str = "+PONG") -> None:
        super().start(timeout, arguments=arguments, answers=answers)
        if answers == "+PONG":
            name, self.version = identity(self.client(0).info("server"))
            if name != self.server:
                raise StartFailed(
                    f"image {self.image} is {name} {self.version}, and {self.server} is wanted",
                    where=f"broker {self.name}",
                    hint=f"correct `image:` or write `server: {name}`",
                )

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal to the container's main process (docker kill); of SIGKILL all that is in it dies."""
        child = self._running("kill")
        if signal in _ENDING:
            self._asked.add(child)
        self._signal("kill", signal)
        if signal == signals.SIGKILL:
            child.wait(_GONE_WITHIN)

    def stop(self, timeout: float = 15.0) -> None:
        child = self._running("stop")
        self._asked.add(child)
        # Not by the engine's own stop, which would kill it when the time is over.
        self._signal("stop", signals.SIGTERM)
        child.wait(timeout)

    def pause(self) -> None:
        """Freeze all that is in the container (docker pause): the kernel still accepts connections, nobody answers."""
        self._running("pause")
        with self._told("pause"):
            freeze(self._container)

    def resume(self) -> None:
        """Let a paused container go on (docker unpause)."""
        self._running("resume")
        if self.paused:
            with self._told("resume"):
                self._container.unpause()

    @property
    def paused(self) -> bool:
        """Whether the engine says so."""
        if not self.alive:
            return False
        with self._told("look at"):
            self._container.reload()
        return bool(self._container.attrs["State"]["Paused"])

    def recreate(self, data: Literal["keep", "lose"] = "lose", *, timeout: float = 30.0) -> None:
        """Kill the container, if it runs, and put a new one in its place, as an orchestrator does.

        The new one has its address and another host name.

        :param data: ``lose`` gives it an empty volume, ``keep`` the one that was there.
        """
        if self.alive:
            self.kill()
        self._remove()
        self.restart(data, timeout=timeout)

    def disconnect(self) -> None:
        """Take it off the session's network: its connections stay open, and nothing passes."""
        self._running("disconnect")
        with self._told("disconnect"):
            self._engine.network.disconnect(self._container)

    def connect(self) -> None:
        """Put it back on the network, at its address."""
        self._running("connect")
        with self._told("connect"):
            self._engine.network.connect(self._container, ipv4_address=self.address)

    def block(self, name: str) -> Callable[[], None]:
        """Put a folder where a file of its data is to be: nobody can rename a file to it, root neither."""
        path, kept = shlex.quote(str(DATA / name)), shlex.quote(str(DATA / f"{name}.kept"))
        self._execute(f"if [ -e {path} ]; then mv {path} {kept}; fi && mkdir -p {path}/obstacle")

        def unblock() -> None:
            if self.alive:
                self._execute(f"rm -rf {path}; if [ -e {kept} ]; then mv {kept} {path}; fi")

        return unblock

    def close(self) -> None:
        """End it, if it runs, and remove the container with its data. Idempotent; the log stays."""
        if self._child is not None and self._child.alive:
            self._asked.add(self._child)
        self._lose_data()
        self._let_go()

    # What happens in the engine

    def _launch(self, arguments: Sequence[str]) -> Started:
        where = f"broker {self.name}"
        if self._container is None:
            self._engine.need(self.image, where)
        with engine_errors("its container cannot be started", where=where, hint="see the engine's own words"):
            if self._container is None:
                self._container = self._create()
            self._configure(arguments)
            self._child = start(self._container, f"broker:{self.name}", (), log=self.log, on_exit=self._exited)
        return self._child

    def _create(self) -> Any:
        from docker import version
        from docker.types import EndpointConfig

        if self._volume is None:
            self._volume = self._engine.volume(str(DATA))
        network = self._engine.network
        return self._engine.testcontainers.create(
            self.image,
            command=[str(self._shared / f"{self.port}.conf"), *self.arguments],
            ports=None if self._engine.direct else {str(self.port): ("127.0.0.1", self.port)},
            labels=self._engine.labels,
            mounts=[self._volume],
            # At the same place inside: the socket is the same path for both.
            volumes={str(self._shared): {"bind": str(self._shared), "mode": "rw"}},
            network=network.name,
            mem_limit=self.spec.mem_limit,
            memswap_limit=self.spec.mem_limit,  # the same: no swap, in which it would only become slow
            networking_config={network.name: EndpointConfig(version.__version__, ipv4_address=self.address)},
        )

    @cached_property
    def _shared(self) -> Path:
        """The server's configuration and socket. Its own user, whoever that is in the image, writes there; nobody else
        can, since the folder above is ours alone."""
        folder = self._folder / "shared"
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    @property
    def socket_path(self) -> Path:
        return self._shared / f"{self.port}.sock"

    def _configure(self, arguments: Sequence[str]) -> None:
        """Write the configuration once, and this start's own options into a file that it includes."""
        path, once = self._shared / f"{self.port}.conf", self._shared / "start.conf"
        if not path.exists():
            text = f"{self._config_text(DATA)}unixsocketperm 777\ninclude {once}\n"
            path.write_text(text, encoding="utf-8")
            path.chmod(0o666)
        given = iter(arguments)
        lines = [f"{option.removeprefix('--')} {next(given)}\n" for option in given]
        once.write_text("".join(lines), encoding="utf-8")
        self.socket_path.unlink(missing_ok=True)

    def _connect(self, timeout: float) -> sockets.socket:
        plain = sockets.create_connection((self.host, self.port), timeout=timeout)
        if self.certificates is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        return context.wrap_socket(plain, server_hostname=self.host)

    @cached_property
    def certificates(self) -> Certificates | None:
        """The server inside is another user, who has to read the key; the folder above is ours alone."""
        return self._issue(self._shared, mode=0o644) if self.spec.tls else None

    def _signal(self, verb: str, signal: int) -> None:
        paused = self.paused
        with self._told(verb):
            if paused:  # an engine signals no container that is paused
                self._container.unpause()
            self._container.kill(signals.Signals(signal).name)

    def _execute(self, script: str) -> None:
        with self._told("reach into"):
            code, output = self._container.exec_run(["sh", "-c", script], user="root")
        if code != 0:
            raise StartFailed(
                f"`{script}` in its container: {output.decode(errors='replace').strip()}", where=f"broker {self.name}"
            )

    def _told(self, verb: str) -> contextlib.AbstractContextManager[None]:
        return engine_errors(
            f"cannot {verb} the container", where=f"broker {self.name}", hint="see the engine's own words"
        )

    def _remove(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            with self._told("remove"):
                remove(container, self._child)

    def _lose_data(self) -> None:
        self._remove()
        volume, self._volume = self._volume, None
        if volume is not None:
            with self._told("remove the volume of"), already_gone():
                self._engine.docker.api.remove_volume(volume["Source"], force=True)

    def _bury(self) -> None:
        """Nothing outlives the main process of a container."""

    def _let_go(self) -> None:
        self.__dict__.pop("_shared", None)
        super()._let_go()

    def _has_users(self) -> bool:
        return not any(option.lower() == "aclfile" for option in self.spec.options)

    def _running(self, verb: str) -> Started:
        if self._child is None or not self._child.alive:
            raise self._not_running(verb)
        return self._child

    def _exited(self, child: Child) -> None:
        if self.on_exit is not None:
            self.on_exit(child, child in self._asked)
