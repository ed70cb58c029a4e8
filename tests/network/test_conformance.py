"""What passes is what was sent: any frames in any pieces, redis-benchmark, TLS and unix sockets upstream."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import missing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_celery_chaos.brokers.certificates import Certificates, issue
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system.keeper import Keeper

from . import frames
from .conftest import Wired

SEVERAL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Script:
    """A server that is told what to hear and what to say; a link of an idle proxy before it, and of a looking one."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.proxy = Proxy(keeper, folder)
        address = ("127.0.0.1", self.listener.getsockname()[1])
        self.ports = [self.proxy.link(name, address) for name in ("idle", "looking")]
        self.proxy.timeline(links=["looking"])

    def exchange(self, port: int, asked: list[bytes], said: list[bytes]) -> tuple[bytes, bytes]:
        """Send both streams at once, piece by piece; what arrives at the server, and at the client."""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            server, _ = self.listener.accept()
            server.settimeout(20)
            with server:
                heard: list[bytes] = [b"", b""]
                ends = [(client, asked, 1), (server, said, 0)]
                threads = [threading.Thread(target=_say, args=(end, pieces)) for end, pieces, _ in ends]
                threads += [threading.Thread(target=_hear, args=(end, heard, number)) for end, _, number in ends]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(30)
                return heard[0], heard[1]

    def close(self) -> None:
        self.listener.close()
        assert self.proxy.log.read_text() == ""
        self.proxy.close()


def _say(end: socket.socket, pieces: list[bytes]) -> None:
    for piece in pieces:
        end.sendall(piece)
    end.shutdown(socket.SHUT_WR)


def _hear(end: socket.socket, heard: list[bytes], number: int) -> None:
    while data := end.recv(65536):
        heard[number] += data


@pytest.fixture(scope="module")
def script(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    made = Script(keeper, tmp_path_factory.mktemp("script"))
    yield made
    made.close()


@SEVERAL
@given(st.data())
def test_any_frames_in_any_pieces_arrive_as_they_were(script: Script, data: st.DataObject) -> None:
    asked = b"".join(raw for raw, _ in data.draw(st.lists(frames.requests, max_size=10)))
    said = b"".join(data.draw(st.lists(frames.replies, max_size=10)))
    pieces = data.draw(frames.cut(asked)), data.draw(frames.cut(said))
    for port in script.ports:
        assert script.exchange(port, *pieces) == (asked, said)


@settings(SEVERAL, max_examples=30)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_what_is_no_resp_arrives_too(script: Script, asked: bytes, said: bytes) -> None:
    for port in script.ports:
        assert script.exchange(port, [asked], [said]) == (asked, said)


@pytest.mark.soak
def test_a_hundred_thousand_frames(script: Script) -> None:
    chance = random.Random(1)
    values = [b"", b"x", b"\r\n", b"$5\r\n", bytes(range(256)) * 4, b"y" * 70_000]

    def value(depth: int = 0) -> bytes:
        kind = chance.randrange(9 if depth < 4 else 6)
        if kind < 2:
            return frames.bulk(chance.choice(values), chance.choice([b"$", b"=", b"!"]))
        if kind < 6:
            return chance.choice([b"+OK\r\n", b":1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"-ERR x\r\n", b"$-1\r\n"])
        items = [value(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 6:
            return b"*?\r\n" + b"".join(items) + b".\r\n"
        return chance.choice([b"*", b"~"]) + b"%d\r\n" % len(items) + b"".join(items)

    def cut(stream: bytes) -> list[bytes]:
        places = sorted(chance.randrange(len(stream)) for _ in range(len(stream) // 300))
        return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]

    for _ in range(20):
        requests = [frames.command(*chance.choices(values[:5], k=chance.randint(1, 4))) for _ in range(1250)]
        asked, said = b"".join(requests), b"".join(value() for _ in range(1250))
        pieces = cut(asked), cut(said)
        for port in script.ports:
            assert script.exchange(port, *pieces) == (asked, said)


@pytest.mark.parametrize("looking", [False, True])
def test_redis_benchmark(wired: Wired, looking: bool) -> None:
    program = shutil.which("redis-benchmark")
    if program is None:
        missing("redis-benchmark is not in PATH: it comes with redis-tools")
    if looking:
        wired.proxy.timeline(["publish"])
    tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"
    for more in ((), ("-P", "16"), ("-3",)):
        done = subprocess.run(
            [program, "-p", str(wired.port), "-n", "1000", "-c", "20", "-q", "-t", tests, *more],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "rror" not in done.stdout + done.stderr.replace("WARNING: Could not fetch server CONFIG", "")
    assert wired.proxy.stats()["a"]["blind"] == 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate of 127.0.0.1, its key, and who vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    return issue(["127.0.0.1"], folder / "ca.pem", folder)


def _echo_tls(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve_tls, args=(connection, context), daemon=True).start()


def _serve_tls(connection: socket.socket, context: ssl.SSLContext) -> None:
    try:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            while data := wrapped.recv(65536):
                wrapped.sendall(data)
    except OSError:
        return


def test_a_server_that_speaks_tls(keeper: Keeper, tmp_path: Path, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_echo_tls, args=(listener, context), daemon=True).start()
    address = ("127.0.0.1", listener.getsockname()[1])
    data = random.Random(1).randbytes(5_000_000)
    raw = frames.bulk(data)
    with Proxy(keeper, tmp_path) as proxy:
        port = proxy.link("tls", address, tls={"ca": str(certificates.ca)})
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"+x\r\n")
            assert client.recv(100) == b"+x\r\n"
            rule = proxy.arm("hold", when="request", contains="mine")
            sender = threading.Thread(target=client.sendall, args=(raw,))
            sender.start()
            found = b""
            while len(found) < len(raw):
                found += client.recv(1 << 20)
            sender.join()
            assert found == raw
            assert rule.disarm()["acted"] == 0
        wrong = proxy.link("wrong", address, tls={})  # nobody vouches for it
        with socket.create_connection(("127.0.0.1", wrong), timeout=20) as client, pytest.raises(ConnectionResetError):
            client.recv(100)
        assert proxy.log.read_text() == ""
    listener.close()


def test_a_proxy_starts_fast_and_imports_little(keeper: Keeper, tmp_path: Path) -> None:
    with Proxy(keeper, tmp_path) as proxy:
        maps = Path(f"/proc/{proxy.child.pid}/maps").read_text()
    loaded: Any = [name for name in ("_ssl", "_ctypes", "_asyncio", "_decimal") if f"{name}." in maps]
    assert not loaded
