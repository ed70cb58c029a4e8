"""The command tests of a client library, directly and through the idle proxy: what differs is the proxy's doing.

Run by hand: ``python tests/network/client_suites.py CHECKOUT --python PYTHON [--server valkey-9.1] [TEST …]``, where
CHECKOUT is a clone of redis-py or valkey-py and PYTHON one that has what its tests need.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.network.proxy import Proxy
from pytest_celery_chaos.system import ports, wait
from pytest_celery_chaos.system.keeper import Keeper

#: What needs nothing but a server. Left out: clusters, modules, TLS, sentinels, credentials.
FILES = ("commands", "pipeline", "pubsub", "scripting", "encoding", "lock", "monitor", "connection_pool", "function")
MARKS = "not onlycluster and not redismod and not ssl and not replica and not cp_integration"


def outcomes(python: str, suite: Path, url: str, files: list[str], folder: Path) -> dict[str, str]:
    """By test, how it came out."""
    report = folder / "report.xml"
    option = "--valkey-url" if (suite / "valkey").is_dir() else "--redis-url"
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *files,
            option,
            url,
            "-m",
            MARKS,
            f"--junitxml={report}",
        ],
        cwd=suite,
        stdout=subprocess.PIPE,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"the suite did not come to its end: exit code {done.returncode}\n{done.stdout[-3000:]}")
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = min(kinds) if kinds else "passed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--server", default="valkey-9.1")
    asked = parser.parse_intermixed_args()
    kind, _, version = asked.server.partition("-")
    binary = find(kind, version or None)  # type: ignore[arg-type]
    files = asked.tests or [
        f"tests/test_{name}.py" for name in FILES if (asked.checkout / f"tests/test_{name}.py").exists()
    ]
    with Keeper() as keeper, tempfile.TemporaryDirectory() as temporary:
        folder, port = Path(temporary), ports.free_port()
        # As its users have it: with the commands of tests (DEBUG), which ours refuses.
        argv = [str(binary.path), "--port", str(port), "--save", "", "--dir", temporary]
        argv += ["--enable-debug-command", "yes"] if binary.order >= (7,) else []
        keeper.spawn("server", argv, env={}, cwd=folder, log=folder / "log")
        wait.until(lambda: listens(port), what="the server to listen", timeout=10)
        with Proxy(keeper, folder) as proxy:
            through = proxy.link("a", ("127.0.0.1", port))
            direct = outcomes(asked.python, asked.checkout, f"redis://127.0.0.1:{port}/0", files, folder)
            proxied = outcomes(asked.python, asked.checkout, f"redis://127.0.0.1:{through}/0", files, folder)
            seen = proxy.stats()["a"]
            assert proxy.log.read_text() == "", "nobody complains in its log"
    print(f"{asked.checkout.name} on {asked.server} {binary.version}")
    print("directly:          ", dict(Counter(direct.values())))
    print(
        "through the proxy: ", dict(Counter(proxied.values())), f"{seen['accepted']} connections, {seen['blind']} blind"
    )
    for test in sorted(direct.keys() | proxied.keys()):
        if direct.get(test) != proxied.get(test):
            print(f"  {test}: {direct.get(test)} directly, {proxied.get(test)} through the proxy")


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
