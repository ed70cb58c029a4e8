"""Whose a connection is, told by /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from pytest_celery_chaos.system.sockets import owners

CONNECT = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(connection.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_each_connection_has_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = [sys.executable, "-c", CONNECT, str(port)]
        with (
            socket.create_connection(("127.0.0.1", port)) as mine,
            subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
        ):
            assert child.stdout is not None
            theirs = int(child.stdout.readline())
            named = {os.getpid(): "me", child.pid: "child"}
            assert owners(port, named) == {mine.getsockname()[1]: "me", theirs: "child"}
            assert owners(port, {child.pid: "child"}) == {theirs: "child"}
            assert owners(port + 1, named) == {}
            child.communicate("")
        assert owners(port, {child.pid: "gone"}) == {}
