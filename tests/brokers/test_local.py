"""What every local server must do, whichever it is: one suite, run with each server of this machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu import Connection

from pytest_celery_chaos.brokers.find import Binary, probe
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.errors import StartFailed, UsageError
from pytest_celery_chaos.system.keeper import Keeper

from .conftest import Launch

ALL = ("none", "rdb", "aof-everysec", "aof-always", "aof-no")


def listening(port: int) -> bool:
    with socket.socket() as probe_socket:
        return probe_socket.connect_ex(("127.0.0.1", port)) == 0


def fill(client: redis.Redis) -> None:
    """16 MB."""
    for n in range(16):
        client.set(f"key{n}", b"x" * 1_000_000)


def test_a_started_server_answers_and_is_the_version_that_its_binary_is(launch: Launch, binary: Binary) -> None:
    server = launch()
    assert server.ping() == "+PONG"
    assert server.client(0).ping() is True
    said = server.client(0).info("server")
    reported = said.get("valkey_version") or said["redis_version"]
    assert (server.server, server.version) == probe(binary.path)
    assert server.version == reported
    assert said["process_id"] == server.child.pid


def test_it_listens_on_loopback_alone(launch: Launch) -> None:
    server = launch()
    assert server.client(0).config_get("bind") == {"bind": "127.0.0.1"}
    assert listening(server.port)


@pytest.mark.parametrize("password", [False, True], ids=["open", "password"])
@pytest.mark.parametrize("unix", [False, True], ids=["port", "socket"])
def test_celery_reaches_broker_and_backend_by_their_urls(launch: Launch, unix: bool, password: bool) -> None:
    server = launch(socket=unix, password=password)
    with Connection(server.url(0)) as connection:
        connection.SimpleQueue("orders").put({"n": 1})
    app = Celery(set_as_current=False, broker=server.url(0), backend=server.url(1))
    app.backend.store_result("an-id", 7, "SUCCESS")
    assert server.client(0).llen("orders") == 1
    assert server.client(1).keys("*") == [b"celery-task-meta-an-id"]
    assert server.client(0).keys("celery-task-meta*") == []
    app.backend.client.connection_pool.disconnect()


def test_port_socket_and_password_stay_over_every_kind_of_restart(launch: Launch) -> None:
    server = launch(password=True)
    before = server.port, server.socket_path, server.url(0)
    client, pids = server.client(0), {server.child.pid}
    for end in (server.stop, server.kill, server.restart):
        end()
        if not server.alive:
            server.start()
        assert (server.port, server.socket_path, server.url(0)) == before
        assert client.ping() is True  # the client from before: it connects again by itself
        pids.add(server.child.pid)
    assert len(pids) == 4


@pytest.mark.parametrize("persistence", ALL)
def test_what_a_kill_leaves_is_what_the_persistence_says(launch: Launch, persistence: str) -> None:
    server = launch(persistence=persistence)
    server.client(0).set("key", "value")
    server.kill()
    server.start()
    # An append-only file keeps what was written, at every fsync policy: it is the server that died, not the machine.
    assert server.client(0).get("key") == (b"value" if persistence.startswith("aof") else None)


@pytest.mark.parametrize("persistence", ALL)
def test_what_a_graceful_restart_leaves_is_what_the_persistence_says(launch: Launch, persistence: str) -> None:
    server = launch(persistence=persistence)
    server.client(0).set("key", "value")
    server.restart("keep")
    assert server.client(0).get("key") == (None if persistence == "none" else b"value")


@pytest.mark.parametrize("persistence", ["rdb", "aof-always"])
def test_a_restart_that_loses_its_data_loses_it(launch: Launch, persistence: str) -> None:
    server = launch(persistence=persistence)
    server.client(0).set("key", "value")
    server.restart("lose")
    assert server.client(0).dbsize() == 0


def test_save_points_and_the_fsync_policy_are_in_force(launch: Launch) -> None:
    assert launch("r", persistence="rdb", save="60 1 10 100").client(0).config_get("save")["save"] == "60 1 10 100"
    assert launch("d", persistence="rdb").client(0).config_get("save")["save"] != ""
    assert launch("n").client(0).config_get("save")["save"] == ""
    for policy in ("everysec", "always", "no"):
        server = launch(policy, persistence=f"aof-{policy}")
        assert server.client(0).config_get("append*") | {"appendonly": "yes", "appendfsync": policy} == server.client(
            0
        ).config_get("append*")
        assert server.client(0).config_get("save")["save"] == ""


def test_it_is_ready_only_when_its_data_is_loaded(launch: Launch) -> None:
    server = launch(persistence="rdb", options={"key-load-delay": "1000"})
    server.client(0).mset({f"key{n}": n for n in range(300)})
    server.stop()
    begin = time.monotonic()
    server.start()
    assert time.monotonic() - begin > 0.3, "300 keys of 1 ms each were not waited for"
    assert server.client(0).dbsize() == 300


def test_a_paused_server_accepts_and_does_not_answer_until_it_goes_on(launch: Launch) -> None:
    server = launch()
    client = server.client(0, socket_timeout=0.2)
    client.set("key", "value")
    server.pause()
    assert server.paused
    assert server.alive
    assert listening(server.port)
    begin = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.get("key")
    with pytest.raises(redis.TimeoutError):
        server.client(0, socket_timeout=0.2).get("key")
    assert time.monotonic() - begin < 1.5, "a client of the harness tried again"
    server.resume()
    assert not server.paused
    assert client.get("key") == b"value"


def test_a_paused_server_can_be_stopped_killed_and_restarted(launch: Launch) -> None:
    server = launch(persistence="aof-always")
    server.client(0).set("key", "value")
    for end in (server.stop, server.kill, server.restart):
        server.pause()
        end()
        if not server.alive:
            server.start()
        assert not server.paused
        assert server.client(0).get("key") == b"value"


def test_a_kill_closes_connections_and_the_port(launch: Launch) -> None:
    server = launch()
    client = server.client(0)
    client.ping()
    server.kill()
    assert server.child.exit.signal == signal.SIGKILL
    assert not server.alive
    assert not listening(server.port)
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_callback_knows_whether_an_end_was_asked_for(make: Launch) -> None:
    ends: list[tuple[int, bool]] = []
    server = make(on_exit=lambda child, asked: ends.append((child.pid, asked)))
    expected = []
    for asked, end in (
        (True, server.kill),
        (True, server.stop),
        (False, lambda: os.kill(server.child.pid, signal.SIGKILL)),
    ):
        server.start()
        expected.append((server.child.pid, asked))
        end()
        server.child.wait(5.0)
    assert ends == expected


def test_a_wrong_password_is_refused_and_the_right_one_is_seen_nowhere(launch: Launch, tmp_path: Path) -> None:
    server = launch(password=True)
    assert len(server.password) >= 32
    for wrong in ("wrong", None):
        with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            server.client(0, password=wrong).ping()
    assert server.client(0).ping() is True
    server.restart()
    process = Path("/proc", str(server.child.pid))
    seen = [process.joinpath(name).read_bytes() for name in ("cmdline", "environ")]
    seen += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    seen.append(repr(server).encode())
    assert not any(server.password.encode() in each for each in seen)
    configuration = Path(server.child.argv[-1])
    assert configuration.stat().st_mode & 0o777 == 0o600


def test_two_servers_have_two_passwords(make: Launch) -> None:
    assert make("a", password=True).password != make("b", password=True).password
    assert make("c").password is None


def test_options_of_the_server_are_in_force(launch: Launch) -> None:
    options = {
        "notify-keyspace-events": "KEA",
        "client-output-buffer-limit": "normal 1048576 524288 60",
        "tcp-keepalive": "17",
        "slave-announce-ip": "",
    }
    client = launch(options=options).client(0)
    assert set(client.config_get("notify-keyspace-events")["notify-keyspace-events"]) == set("AKE")
    assert "normal 1048576 524288 60" in client.config_get("client-output-buffer-limit")["client-output-buffer-limit"]
    assert client.config_get("tcp-keepalive") == {"tcp-keepalive": "17"}


def test_maxmemory_refuses_or_evicts_by_its_policy(launch: Launch) -> None:
    refusing = launch("refusing", maxmemory="8mb", maxmemory_policy="noeviction").client(0)
    with pytest.raises(redis.OutOfMemoryError):
        fill(refusing)
    evicting = launch("evicting", maxmemory="8mb", maxmemory_policy="allkeys-lru").client(0)
    fill(evicting)
    assert evicting.info("stats")["evicted_keys"] > 0


def test_a_wrong_option_fails_the_start_with_the_servers_own_words(make: Launch) -> None:
    server = make(password=True, options={"no-such-option": "yes"})
    with pytest.raises(StartFailed, match=r"broker main.*exit code 1") as raised:
        server.start()
    assert "no-such-option" in str(raised.value)
    assert server.password not in str(raised.value)
    assert not server.alive


def test_a_port_that_somebody_else_has_fails_the_start(launch: Launch, make: Launch) -> None:
    first, second = launch("first"), make("second")
    second.port = first.port
    with pytest.raises(StartFailed, match="Address already in use"):
        second.start()
    assert first.ping() == "+PONG"
    del second.port  # so that closing does not let go of the first's
    second.start()
    assert second.port != first.port


def test_data_that_cannot_be_loaded_fails_the_start_and_losing_it_helps(launch: Launch) -> None:
    server = launch(persistence="rdb")
    server.stop()
    (server.data / "dump.rdb").write_bytes(b"REDIS0009 and then nothing of the kind")
    with pytest.raises(StartFailed):
        server.start()
    server.restart("lose")
    assert server.client(0).ping() is True


def test_the_log_has_every_start(launch: Launch) -> None:
    server = launch()
    server.kill()
    server.start()
    assert server.log.read_text().count("Ready to accept connections") >= 2


@pytest.mark.parametrize("verb", ["kill", "stop", "pause", "resume"])
def test_a_server_that_does_not_run_says_so(make: Launch, verb: str) -> None:
    server = make()
    with pytest.raises(UsageError, match=f"cannot {verb} broker main: it is not running"):
        getattr(server, verb)()


def test_a_server_that_runs_is_not_started_twice(launch: Launch) -> None:
    with pytest.raises(UsageError, match="running already"):
        launch().start()


@pytest.mark.parametrize("state", ["running", "paused", "killed", "saving"])
def test_a_closed_server_leaves_nothing_but_data_and_log(launch: Launch, state: str) -> None:
    server = launch(password=True, persistence="rdb", options={"rdb-key-save-delay": "100000"})
    children: list[int] = []
    if state == "paused":
        server.pause()
    elif state == "killed":
        server.kill()
    elif state == "saving":
        server.client(0).mset({f"key{n}": n for n in range(100)})
        server.client(0).bgsave()
        children = server.child.children()
        assert children
    port, folder, pid = server.port, server.socket_path.parent, server.child.pid
    server.close()
    server.close()
    assert not folder.exists()
    assert not listening(port)
    assert not any(Path("/proc", str(each)).exists() for each in (pid, *children))
    assert server.log.exists()
    assert server.data.exists()


def test_the_writer_of_a_snapshot_does_not_outlive_a_server_that_died_by_itself(launch: Launch) -> None:
    server = launch(persistence="rdb", options={"rdb-key-save-delay": "100000"})
    server.client(0).mset({f"key{n}": n for n in range(100)})
    server.client(0).bgsave()
    (writer,) = server.child.children()
    os.kill(server.child.pid, signal.SIGKILL)
    server.child.wait(5.0)
    server.restart("lose")
    assert not Path("/proc", str(writer)).exists()
    assert server.client(0).dbsize() == 0


def test_a_server_goes_with_its_keeper(
    keeper: Keeper, launch: Launch, check_gone: Callable[[LocalServer], None]
) -> None:
    server = launch()
    server.pause()
    keeper.close()
    check_gone(server)
    server.close()


@pytest.fixture
def check_gone() -> Callable[[LocalServer], None]:
    def check(server: LocalServer) -> None:
        assert not Path("/proc", str(server.child.pid)).exists()
        assert not listening(server.port)
        assert not server.socket_path.parent.exists()

    return check
