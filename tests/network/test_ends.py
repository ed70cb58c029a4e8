"""Two connections from one port, which a system gives to whoever leads elsewhere, are two."""

from __future__ import annotations

import socket
import struct

import pytest

from .conftest import Line

#: Of Linux 6.3: from which ports to which connect() takes one (the socket module does not know it yet).
IP_LOCAL_PORT_RANGE = 51


def connect_from(own: int, to: int) -> socket.socket:
    """Connect from a port that another connection, to another one, has as well."""
    made = socket.socket()
    made.settimeout(5)
    try:
        made.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", own << 16 | own))
    except OSError:
        made.close()
        pytest.skip("this Linux lets nobody choose such a port")
    made.connect(("127.0.0.1", to))
    assert made.getsockname()[1] == own
    return made


def test_each_is_called_by_its_own_link(line: Line) -> None:
    other = line.proxy.link("other", ("127.0.0.1", line.echo.port))
    with line.connect() as first:
        own = first.getsockname()[1]
        with connect_from(own, other) as second:
            for each in (first, second):
                assert line.trip(each) == b"+x\r\n"
            ends = line.proxy.ends()
            names = [name for (port, to), name in ends.items() if to in (line.port, other)]
            assert ends[own, line.port].startswith("e")
            assert ends[own, other].startswith("other")
            behind = [name for (_, to), name in ends.items() if to == line.echo.port]
            assert sorted(behind) == sorted(names)
