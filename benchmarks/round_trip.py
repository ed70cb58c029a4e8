"""What a command waits for the proxy, and whether the proxy's memory stays flat over a million commands.

    python benchmarks/round_trip.py [--rounds 5] [--trips 4000] [--commands 1000000] [--armed] [--limit 60] [--json]

A round trip is one PING on an idle connection; directly and through the proxy in turn, with a second direct path as the
control. `--armed` adds a rule that means none of the commands, and a timeline of every unit. Then the commands go
through in pipelines of 100: the resident memory of the proxy's process is read after a tenth of them, and at the end.
"""

from __future__ import annotations

import functools
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import HandServer, in_turn, median, parser, report, server_binary, spread

from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system.keeper import Keeper

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
BATCH = 100


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def trips(port: int, count: int) -> float:
    """The median round trip in microseconds."""
    took = []
    with connect(port) as sock:
        for _ in range(count):
            began = time.perf_counter_ns()
            sock.sendall(PING)
            reply = sock.recv(64)
            took.append(time.perf_counter_ns() - began)
            assert reply == PONG, reply
    return median(took) / 1000


def pour(sock: socket.socket, commands: int) -> float:
    """Send so many commands, read every reply, and return the seconds that took."""
    began = time.monotonic()
    for _ in range(commands // BATCH):
        sock.sendall(PING * BATCH)
        wanted = len(PONG) * BATCH
        while wanted > 0:
            data = sock.recv(wanted)
            assert data, "the connection has ended"
            wanted -= len(data)
    return time.monotonic() - began


def resident(pid: int) -> int:
    """Resident memory of a process in KB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def main() -> int:
    options = parser(__doc__, rounds=5, limit=60, unit="µs more than direct")
    options.add_argument("--trips", type=int, default=4000, help="round trips in a round")
    options.add_argument("--commands", type=int, default=1_000_000, help="how many go through for the memory")
    options.add_argument("--armed", action="store_true", help="measure an armed rule and a timeline too")
    asked = options.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name, Keeper() as keeper:
        base = Path(name)
        server = HandServer(server_binary(), base)
        prepared: dict[str, Callable[[Proxy], object]] = {"proxy": lambda proxy: None}
        if asked.armed:
            prepared["armed"] = lambda proxy: proxy.arm("hold", role="ack", task="never", when="reply")
            prepared["timeline"] = lambda proxy: proxy.timeline()
        cases: dict[str, Callable[[], float]] = {"direct": functools.partial(trips, server.port, asked.trips)}
        proxies = {}
        try:
            for case, prepare in prepared.items():
                (base / case).mkdir()
                proxy = proxies[case] = Proxy(keeper, base / case, base / case)
                cases[case] = functools.partial(trips, proxy.link("bench", base / f"{server.port}.sock"), asked.trips)
                prepare(proxy)
            found = in_turn({**cases, "control": cases["direct"]}, asked.rounds)
            lines = [f"{'path':9} {'µs':>6} {'middle half':>12} {'added':>6}"]
            for path, values in found.items():
                added = median([value - by for value, by in zip(values, found["direct"], strict=True)])
                figures |= {f"{path}_us": median(values), f"{path}_added_us": added}
                lines.append(f"{path:9} {median(values):6.0f} {spread(values):>12} {added:6.0f}")
            idle = proxies["proxy"]
            with connect(idle.port("bench")) as sock:
                pour(sock, asked.commands // 10)
                before = resident(idle.child.pid)
                seconds = pour(sock, asked.commands - asked.commands // 10)
            grown = resident(idle.child.pid) - before
            figures |= {"grown_kb": grown, "commands": asked.commands}
            lines.append(
                f"{asked.commands:,} commands, {asked.commands * 0.9 / seconds:,.0f} a second: the proxy has "
                f"{before + grown:,} KB, {grown:,} KB more than after a tenth of them"
            )
        finally:
            for proxy in proxies.values():
                proxy.close()
            server.kill()
    added = figures["proxy_added_us"]
    lines.append(
        f"the idle proxy adds {added:.0f} µs to a round trip, {added / asked.limit:.2f} of the goal of {asked.limit:g}"
    )
    report(asked, lines, figures)
    return int(added > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
