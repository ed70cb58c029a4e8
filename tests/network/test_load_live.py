"""Large values and many operations through the proxy: memory stays flat, and every reply is its own request's."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from pathlib import Path

import pytest

from .conftest import Wired
from .frames import bulk, command


def read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := sock.recv(min(65536, size - len(found)))):
        found += data
    return found


def rss(pid: int) -> int:
    """Most memory that a process has had, in KB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("armed", [False, True])
def test_a_value_of_100_mb_passes_both_ways_with_memory_flat(wired: Wired, armed: bool) -> None:
    if armed:
        wired.proxy.timeline()
        wired.proxy.arm("hold", command="NEVER")
    before = rss(wired.proxy.child.pid)
    value = random.Random(1).randbytes(1 << 20) * 100
    client = wired.client(socket_timeout=60)
    client.set("large", value)
    assert client.strlen("large") == len(value)
    sock = wired.socket()
    sock.settimeout(60)
    sock.sendall(command(b"GET", b"large"))
    head = read(sock, len(b"$104857600\r\n"))
    assert head == b"$104857600\r\n"
    time.sleep(0.3)  # we do not drain: it must stop reading
    assert hashlib.sha1(read_all(sock, len(value))).digest() == hashlib.sha1(value).digest()
    assert rss(wired.proxy.child.pid) - before < 8192, "KB"


def read_all(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += sock.recv(min(1 << 20, size - len(found)))
    return bytes(found)


def test_a_large_request_is_dropped_and_a_large_reply_is_answered(wired: Wired) -> None:
    value = b"x" * 1_000_000
    wired.proxy.arm("answer", command="SET", key="large", answer="-OOM mine")
    wired.proxy.arm("answer", command="GET", key="other", when="reply", answer="$-1")
    wired.direct().set("other", value)
    sock = wired.socket()
    sock.sendall(command(b"SET", b"large", value) + command(b"GET", b"other") + command(b"PING"))
    assert read(sock, 23) == b"-OOM mine\r\n$-1\r\n+PONG\r\n"[:23]
    assert wired.direct().get("large") is None


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_ten_thousand_operations_with_rules_coming_and_going(wired: Wired, seed: int) -> None:
    """Every reply is that of its own request, whatever is armed and disarmed meanwhile."""
    chance = random.Random(seed)
    failures = list[str]()
    threads = [threading.Thread(target=_talk, args=(wired, seed * 10 + n, 2500, failures)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        do = chance.choice(["watch", "delay", "duplicate", "hold", "answer"])
        when = "request" if do in ("duplicate", "answer") else chance.choice(["request", "reply"])
        # What is answered or doubled must not change what the others see: reads alone.
        rule = wired.proxy.arm(
            do,
            when=when,
            command=chance.choice(["GET", "ECHO"] if do in ("duplicate", "answer") else ["GET", "SET", "EXEC", "INCR"]),
            nth=chance.randint(1, 20),
            times=chance.choice([1, 5, None]) if do != "hold" else 1,
            seconds=0.002,
            multi=False if do in ("duplicate", "answer") else None,
            answer="-MINE x" if do == "answer" else None,
        )
        time.sleep(chance.random() * 0.02)
        rule.disarm()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def _talk(wired: Wired, seed: int, operations: int, failures: list[str]) -> None:
    chance = random.Random(seed)
    sock = socket.create_connection(("127.0.0.1", wired.port), timeout=30)
    stream, key, count = sock.makefile("rb"), b"k%d" % seed, 0
    sock.sendall(command(b"SET", key, b"0"))
    assert stream.readline() == b"+OK\r\n"
    done = 0
    while done < operations:
        batch = []
        for _ in range(chance.randint(1, 8)):
            number = b"%d.%d" % (seed, done)
            done += 1
            kind = chance.randrange(5)
            if kind == 0:
                batch.append((command(b"ECHO", number), [bulk(number)], True))
            elif kind == 1:
                batch.append((command(b"GET", b"none-%d" % done), [b"$-1\r\n"], True))
            elif kind == 2:
                count += 1
                batch.append((command(b"INCR", key), [b":%d\r\n" % count], False))
            elif kind == 3:
                count += 1
                sent = command(b"MULTI") + command(b"INCR", key) + command(b"GET", b"n") + command(b"EXEC")
                said = [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"*2\r\n:%d\r\n$-1\r\n" % count]
                batch.append((sent, said, False))
            else:
                batch.append((b"PING %s\r\n" % number, [bulk(number)], False))
        raw = b"".join(each for each, _, _ in batch)
        cut = chance.randint(0, len(raw))
        sock.sendall(raw[:cut])
        sock.sendall(raw[cut:])
        for _, said, may_be_answered in batch:
            for wanted in said:
                got = stream.readline()
                if got == b"-MINE x\r\n" and may_be_answered:
                    continue
                got += stream.read(len(wanted) - len(got)) if len(wanted) > len(got) else b""
                if got != wanted:
                    failures.append(f"{got!r} instead of {wanted!r}")
                    return
    sock.close()
