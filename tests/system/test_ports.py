"""A port that was handed out is nobody else's, and its server gets it again after every restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from pytest_celery_chaos.system import ports, wait

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))  # sets SO_REUSEADDR, as Redis does
kept = []
while True:
    kept.append(listener.accept())
    kept[-1][0].sendall(b"PONG")
"""


@pytest.fixture
def port() -> Iterator[int]:
    port = ports.free_port()
    yield port
    ports.release_port(port)


def test_nobody_else_can_bind_a_port_that_was_handed_out(port: int) -> None:
    with closing(socket.socket()) as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))


def test_a_connection_to_a_server_that_is_not_up_is_refused(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_gets_its_port_again_after_each_kill_with_clients_connected(port: int) -> None:
    clients = []
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", SERVER, str(port)]) as server:

            def connected() -> socket.socket | None:
                try:
                    return socket.create_connection(("127.0.0.1", port))
                except ConnectionRefusedError:
                    return None

            client = wait.until(connected, what="the server to listen", timeout=5)
            assert client.recv(4) == b"PONG"
            clients.append(client)  # stays open over the restart
            os.kill(server.pid, signal.SIGKILL)
        with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    for client in clients:
        client.close()


def test_parallel_processes_never_get_the_same_port() -> None:
    code = (
        "import sys; from pytest_celery_chaos.system.ports import free_port;"
        "print(*[free_port() for _ in range(100)], flush=True); sys.stdin.read()"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    got: list[int] = []
    for process in running:
        assert process.stdout is not None
        got += map(int, process.stdout.readline().split())
    for process in running:
        process.communicate()
    assert len(got) == len(set(got)) == 400


def test_ports_lie_where_no_outgoing_connection_takes_them(port: int) -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:  # noqa: PTH123
        first = int(file.read().split()[0])
    if first <= ports.LOWEST + 1000:
        pytest.skip(f"this machine's ephemeral ports begin at {first}")
    assert ports.LOWEST <= port < first


def test_a_released_port_can_be_bound_by_anybody() -> None:
    port = ports.free_port()
    ports.release_port(port)
    ports.release_port(port)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port))


def test_a_long_session_does_not_run_out_of_files() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    handed_out = [ports.free_port() for _ in range(3 * ports.MOST_HELD)]
    assert len(os.listdir("/proc/self/fd")) - before <= ports.MOST_HELD  # noqa: PTH208
    for port in handed_out:
        ports.release_port(port)
