"""A container engine as a session uses it: one network, one label, and the images that it has.

Through testcontainers, which finds the engine (DOCKER_HOST, the Docker context, ``~/.testcontainers.properties``). Its
reaper (Ryuk) is not started: the keeper removes whatever carries the session's label, also after a ``kill -9``.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, Final

from pytest_celery_chaos.errors import ChaosError, ServerNotFound, StartFailed

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

    from pytest_celery_chaos.system.keeper import Keeper

LABEL: Final = "org.pytest-celery-chaos.session"
#: Addresses below this one are left to containers that take any.
_FIRST: Final = 100
#: How often a network is tried to be made, where others take the subnet in between.
_TRIES: Final = 5


class Engine:
    """The engine, for one session.

    :param keeper: removes what is left.
    :param images: by an image's name, the one to take in its place (``chaos_images``).
    :raises ServerNotFound: see :func:`connect`.
    :raises UsageError: the keeper cannot speak to that engine.
    """

    def __init__(self, keeper: Keeper, images: Mapping[str, str] | None = None) -> None:
        self.label = uuid.uuid4().hex
        self._images = images or {}
        self.testcontainers = connect()
        self.docker: Any = self.testcontainers.client
        from docker.utils import parse_host

        # testcontainers has put there what it found.
        address = str(parse_host(os.environ.get("DOCKER_HOST")))
        address = address.replace("http+unix://", "unix://").replace("http://", "tcp://")
        keeper.engine(address, f"{LABEL}={self.label}")
        self._lock = threading.RLock()
        self._network: Any = None
        self._given = 0
        self._there: set[str] = set()

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: self.label}

    @property
    def network(self) -> Any:
        """The session's own network, in which a container keeps the address that it was given; made when first asked
        for."""
        with self._lock:  # several servers start at once
            if self._network is None:
                self._network = self._make_network()
            return self._network

    def _make_network(self) -> Any:
        # Only a subnet that was asked for by name lets addresses be chosen: ask for the one that the engine would take.
        from docker.errors import APIError
        from docker.types import IPAMConfig, IPAMPool

        for attempt in range(_TRIES):
            name = f"celery-chaos-{self.label[:12]}-{attempt}"
            # Without a way out of it, which takes the engine half as long.
            made = self.docker.networks.create(f"{name}-trial", labels=self.labels, internal=True)
            made.reload()
            subnet = _subnet(made)
            made.remove()
            with contextlib.suppress(APIError):
                pool = IPAMPool(subnet=str(subnet), gateway=str(_gateway(subnet)))
                ipam = IPAMConfig(pool_configs=[pool])
                network = self.docker.networks.create(name, labels=self.labels, ipam=ipam)
                network.reload()
                return network
        raise StartFailed("no subnet for a network of containers", hint="remove networks: docker network prune")

    @cached_property
    def direct(self) -> bool:
        """Whether this machine reaches its containers at their own addresses: the network's bridge is a device here.

        Else (an engine in a virtual machine, a rootless one) only ports that are published lead into them.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
            try:
                mine.bind((str(_gateway(_subnet(self.network))), 0))  # nobody can but the machine that has this address
            except OSError:
                return False
        return True

    def address(self) -> IPv4Address:
        """An address of the network that no other container of this session is given."""
        with self._lock:
            self._given += 1
            return _subnet(self.network)[_FIRST + self._given]

    def volume(self, where: str) -> Any:
        """A new volume, mounted at *where* of the containers that it is given to; the first of them makes it."""
        from docker.types import Mount

        return Mount(where, f"celery-chaos-{self.label[:12]}-{uuid.uuid4().hex[:8]}", labels=self.labels)

    def newest(self, repository: str) -> str | None:
        """The highest version among the tags that the engine has of an image; None where it has none."""
        names = [name for image in self.docker.api.images(repository) for name in image["RepoTags"] or ()]
        tags = [name.removeprefix(f"{repository}:") for name in names]
        numbered = [tag for tag in tags if re.fullmatch(r"\d+(\.\d+)*", tag)]
        return max(numbered, key=lambda tag: [int(part) for part in tag.split(".")], default=None)

    def instead(self, image: str) -> str:
        """The image that is taken where *image* is named: itself, unless the session says otherwise."""
        return self._images.get(image, image)

    def need(self, image: str, where: str) -> None:
        """Have the image here, pulled if it is not; looked for once in a session.

        :raises ServerNotFound: it is not here and cannot be pulled.
        """
        if image in self._there:
            return
        from docker.errors import ImageNotFound

        try:
            self.docker.images.get(image)
        except ImageNotFound:
            hint = f"docker pull {image}, or name another one: `image:`"
            with engine_errors(f"no image {image}", where=where, hint=hint, error=ServerNotFound):
                self.docker.images.pull(image)
        self._there.add(image)


def _subnet(network: Any) -> IPv4Network:
    return IPv4Network(network.attrs["IPAM"]["Config"][0]["Subnet"])


def _gateway(subnet: IPv4Network) -> IPv4Address:
    """This machine's own address in a network, where the engine is on it."""
    return subnet[1]


def connect() -> DockerClient:
    """testcontainers' client of the engine, which answers.

    :raises ServerNotFound: testcontainers is not installed, or no engine answers.
    """
    try:
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        raise ServerNotFound(
            "containers need testcontainers", hint="pip install 'pytest-celery-chaos[containers]'"
        ) from None
    hint = "start Docker, or set DOCKER_HOST"
    with engine_errors("no container engine answers", hint=hint, error=ServerNotFound):
        client = DockerClient()
        client.client.ping()
    return client


@contextlib.contextmanager
def engine_errors(
    what: str, *, hint: str, where: str | None = None, error: type[ChaosError] = StartFailed
) -> Iterator[None]:
    """Turn what the engine's client raises into an error of ours that says *what* could not be done."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException, OSError) as raised:
        said = getattr(raised, "explanation", None) or raised
        raise error(f"{what}: {str(said).strip()[:300]}", where=where, hint=hint) from None


@contextlib.contextmanager
def already_gone() -> Iterator[None]:
    """Around the removal of what the keeper, which has ended, may have removed itself."""
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        yield
