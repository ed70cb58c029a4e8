"""What every server must do, wherever it runs: one suite for each provider and version."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Connection

from pytest_celery_chaos.brokers.find import NAMES
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.system.child import Child

from .conftest import Make, Provided


def listening(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((host, port)) == 0


def test_a_started_server_answers_and_is_what_it_says(launch: Make, provided: Provided) -> None:
    server = launch()
    assert server.ping() == "+PONG"
    said = server.client(0).info("server")
    assert server.version == (said.get("valkey_version") or said["redis_version"])
    assert server.server == ("valkey" if "valkey_version" in said else "redis")
    assert f"{server.version}.".startswith(provided.name.replace(":", "-").rpartition("-")[2] + ".")


@pytest.mark.parametrize(("unix", "password"), [(False, True), (True, False)], ids=["port", "socket"])
def test_celery_reaches_broker_and_backend_by_their_urls(launch: Make, unix: bool, password: bool) -> None:
    server = launch(socket=unix, password=password)
    with Connection(server.url(0)) as connection:
        connection.SimpleQueue("orders").put({"n": 1})
    app = Celery(set_as_current=False, broker=server.url(0), backend=server.url(1))
    app.backend.store_result("an-id", 7, "SUCCESS")
    assert server.client(0).llen("orders") == 1
    assert server.client(1).keys("*") == [b"celery-task-meta-an-id"]
    app.backend.client.connection_pool.disconnect()


def test_it_is_reached_from_this_machine_alone(launch: Make) -> None:
    server = launch()
    assert listening(server.host, server.port)
    with Path("/proc/net/tcp").open() as table:
        listens = [line.split()[1] for line in table if f":{server.port:04X} 00000000:0000" in line]
    # 0100007F is 127.0.0.1, as a little-endian machine writes it. A container has an address of its own.
    assert listens == ([] if server.contained else [f"0100007F:{server.port:04X}"])


def test_a_server_sees_whose_a_connection_is_by_our_own_port(launch: Make) -> None:
    server = launch()
    with socket.create_connection((server.host, server.port), timeout=5.0) as ours:
        ours.sendall(b"PING\r\n")
        assert ours.recv(64) == b"+PONG\r\n"
        clients = server.client(0).client_list()
        host, port = ours.getsockname()
        assert f"{host}:{port}" in [each["addr"] for each in clients]


def test_address_and_password_stay_over_every_kind_of_restart(launch: Make) -> None:
    server = launch(password=True)
    before = server.host, server.port, server.socket_path, server.url(0)
    client = server.client(0)
    for end in (server.stop, server.kill, server.restart):
        end()
        if not server.alive:
            server.start()
        assert (server.host, server.port, server.socket_path, server.url(0)) == before
        assert client.ping() is True  # the client from before: it connects again by itself


@pytest.mark.parametrize("persistence", ["none", "rdb", "aof-always"])
def test_what_a_kill_and_a_stop_leave_is_what_the_persistence_says(launch: Make, persistence: str) -> None:
    server = launch(persistence=persistence)
    server.client(0).set("key", "value")
    server.kill()
    server.start()
    # An append-only file keeps what was written, at every fsync policy: it is the server that died, not the machine.
    assert server.client(0).get("key") == (b"value" if persistence.startswith("aof") else None)
    server.client(0).set("key", "value")
    server.restart("keep")
    assert server.client(0).get("key") == (None if persistence == "none" else b"value")


def test_a_restart_that_loses_its_data_loses_it(launch: Make) -> None:
    server = launch(persistence="aof-always")
    server.client(0).set("key", "value")
    server.restart("lose")
    assert server.client(0).dbsize() == 0


def test_options_are_in_force(launch: Make) -> None:
    server = launch(
        persistence="rdb",
        save="60 1 10 100",
        maxmemory="8mb",
        maxmemory_policy="allkeys-lru",
        options={"client-output-buffer-limit": "normal 1048576 524288 60", "tcp-keepalive": "17"},
    )
    client = server.client(0)
    assert client.config_get("save")["save"] == "60 1 10 100"
    assert client.config_get("maxmemory") == {"maxmemory": "8388608"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
    assert client.config_get("tcp-keepalive") == {"tcp-keepalive": "17"}
    assert "normal 1048576 524288 60" in client.config_get("client-output-buffer-limit")["client-output-buffer-limit"]


def test_a_paused_server_accepts_and_does_not_answer_until_it_goes_on(launch: Make) -> None:
    server = launch()
    client = server.client(0, socket_timeout=0.2)
    client.set("key", "value")
    server.pause()
    assert server.paused
    assert server.alive
    assert listening(server.host, server.port)
    with pytest.raises(redis.TimeoutError):
        client.get("key")
    with pytest.raises(redis.TimeoutError):
        server.client(0, socket_timeout=0.2).get("key")
    server.resume()
    assert not server.paused
    assert client.get("key") == b"value"


def test_a_paused_server_can_be_stopped_killed_and_restarted(launch: Make) -> None:
    server = launch(persistence="aof-always")
    server.client(0).set("key", "value")
    for end in (server.stop, server.kill, server.restart):
        server.pause()
        end()
        if not server.alive:
            server.start()
        assert not server.paused
        assert server.client(0).get("key") == b"value"


def test_a_kill_closes_connections_and_the_port(launch: Make) -> None:
    server = launch()
    client = server.client(0)
    client.ping()
    server.kill()
    assert server.child is not None
    assert server.child.exit is not None
    assert server.child.exit.signal == signal.SIGKILL
    assert not server.alive
    assert not listening(server.host, server.port)
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        client.ping()


def test_the_callback_knows_whether_an_end_was_asked_for(make: Make) -> None:
    ends: list[tuple[Child, bool]] = []
    server = make(on_exit=lambda child, asked: ends.append((child, asked)))
    expected: list[tuple[Child | None, bool]] = []

    def dies() -> None:
        assert server.child is not None
        os.kill(server.child.pid, signal.SIGKILL)

    for asked, end in ((True, server.kill), (True, server.stop), (False, dies)):
        server.start()
        expected.append((server.child, asked))
        end()
        assert server.child is not None
        server.child.wait(10.0)
    assert ends == expected


def test_the_password_is_needed_and_seen_nowhere(launch: Make, tmp_path: Path) -> None:
    server = launch(password=True)
    assert server.password is not None
    for wrong in ("wrong", None):
        with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            server.client(0, password=wrong).ping()
    assert server.child is not None
    process = Path("/proc", str(server.child.pid))
    seen = [process.joinpath(name).read_bytes() for name in ("cmdline", "environ")]
    seen += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    seen.append(repr(server).encode())
    assert not any(server.password.encode() in each for each in seen)


def test_a_wrong_option_fails_the_start_with_the_servers_own_words(make: Make) -> None:
    server = make(password=True, options={"no-such-option": "yes"})
    with pytest.raises(StartFailed, match=r"broker main.*exit code 1") as raised:
        server.start()
    assert "no-such-option" in str(raised.value)
    assert server.password is not None
    assert server.password not in str(raised.value)
    assert not server.alive


def test_a_snapshot_can_be_made_impossible_and_possible_again(launch: Make) -> None:
    server = launch(persistence="rdb")
    client = server.client(0)
    unblock = server.block("dump.rdb")
    client.set("key", "value")
    with pytest.raises(redis.ResponseError):
        client.save()
    unblock()
    assert client.save() is True


def test_it_can_be_started_while_it_loads(launch: Make) -> None:
    server = launch(persistence="rdb")
    server.client(0).mset({f"key{n}": b"x" * 4096 for n in range(1000)})
    server.stop()
    begin = time.monotonic()
    server.start(arguments=["--key-load-delay", "1000"])
    assert time.monotonic() - begin > 1.0, "1,000 keys of 1 ms each were not waited for"
    server.restart()
    assert server.client(0).config_get("key-load-delay") == {"key-load-delay": "0"}


def test_the_log_has_every_start(launch: Make) -> None:
    server = launch()
    server.kill()
    server.start()
    server.kill()
    assert server.log.read_text().count("Ready to accept connections") >= 2


@pytest.mark.parametrize("verb", ["kill", "stop", "pause", "resume"])
def test_a_server_that_does_not_run_says_so(make: Make, verb: str) -> None:
    with pytest.raises(UsageError, match=f"cannot {verb} broker main: it is not running"):
        getattr(make(), verb)()


def test_a_server_that_runs_is_not_started_twice(launch: Make) -> None:
    with pytest.raises(UsageError, match="running already"):
        launch().start()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_closed_server_leaves_nothing_but_its_log(launch: Make, state: str) -> None:
    server = launch(password=True, persistence="rdb")
    if state == "paused":
        server.pause()
    assert server.child is not None
    host, port, folder, pid = server.host, server.port, server.socket_path.parent, server.child.pid
    server.close()
    server.close()
    assert not folder.exists()
    assert not listening(host, port)
    assert not Path("/proc", str(pid)).exists()
    assert server.log.exists()


def test_a_server_goes_with_its_keeper(provided: Provided, tmp_path: Path) -> None:
    session = Session(tmp_path)
    server = session.provide(provided.spec("main"), tmp_path / "main", tmp_path / "main.log")
    server.start()
    server.pause()
    assert server.child is not None
    pid, folder = server.child.pid, server.socket_path.parent
    session.close()
    assert not Path("/proc", str(pid)).exists()
    assert not folder.exists()
    # Of a container: where its own address was there is no network any more, and the way there leads elsewhere.
    assert not listening("127.0.0.1", server.port)
    server.close()


def test_over_tls_it_answers_whom_it_was_made_for_and_nobody_else(launch: Make, provided: Provided) -> None:
    if provided.provider == "local" and provided.name in NAMES:  # of wheels, which are built without
        with pytest.raises(StartFailed, match=r"(?s)TLS.*built without TLS|--tls|tls-port"):
            launch(tls=True)
        return
    server = launch(tls=True, password=True)
    assert server.ping() == "+PONG"
    assert server.certificates is not None
    address = {"host": server.host, "port": server.port, "password": server.password, "retry": None}
    for strangers in ({}, {"ssl": True}):  # without TLS, and trusting whom everybody trusts
        with pytest.raises(redis.ConnectionError):
            redis.Redis(**address, **strangers).ping()  # type: ignore[arg-type]
    app = Celery(set_as_current=False, broker=server.url(0), backend=server.url(1))
    with app.connection_for_write() as connection:
        connection.SimpleQueue("orders").put({"n": 1})
    app.backend.store_result("an-id", 7, "SUCCESS")
    assert app.AsyncResult("an-id").get(timeout=5) == 7
    server.restart()
    assert server.client(0).ping()
    assert str(server.certificates.key) not in server.url(0)
    key = server.certificates.key.read_text()
    assert "PRIVATE KEY" in key
    assert not any(key in path.read_text(errors="replace") for path in server.log.parent.iterdir() if path.is_file())
    app.backend.client.connection_pool.disconnect()


def test_what_tls_cannot_be_combined_with_is_refused(make: Make) -> None:
    for other in ({"socket": True}, {"topology": "sentinel"}):
        with pytest.raises(UsageError, match=r"`tls: true` with"):
            make(tls=True, **other)
