"""What is so of servers that are processes of this machine; what is so everywhere: tests/backends."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import redis

from pytest_celery_chaos.brokers.find import Binary, probe
from pytest_celery_chaos.errors import StartFailed

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


def test_maxmemory_refuses_or_evicts_by_its_policy(launch: Launch) -> None:
    refusing = launch("refusing", maxmemory="8mb", maxmemory_policy="noeviction").client(0)
    with pytest.raises(redis.OutOfMemoryError):
        fill(refusing)
    evicting = launch("evicting", maxmemory="8mb", maxmemory_policy="allkeys-lru").client(0)
    fill(evicting)
    assert evicting.info("stats")["evicted_keys"] > 0


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


def test_a_server_that_is_closed_while_it_saves_leaves_nothing_but_data_and_log(launch: Launch) -> None:
    server = launch(password=True, persistence="rdb", options={"rdb-key-save-delay": "100000"})
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
