"""The proxy's event loop, and one end of a connection: epoll, timers, bounded queues, nothing that blocks."""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

RECEIVE: Final = 65536
HIGH: Final = 1 << 18
"""Bytes that may wait for the other side before its source is no longer read."""
_GONE: Final = select.EPOLLHUP | select.EPOLLERR
_LINGER: Final = struct.pack("ii", 1, 0)


class Timer:
    """Something to be done later, unless it is cancelled."""

    __slots__ = ("do", "due")

    def __init__(self, due: float, do: Callable[[], None]) -> None:
        self.due = due
        self.do: Callable[[], None] | None = do

    def cancel(self) -> None:
        self.do = None

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due


class Loop:
    """Waits for sockets and timers, one after the other, in one thread."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._fresh: set[int] = set()

    def later(self, seconds: float, do: Callable[[], None]) -> Timer:
        timer = Timer(monotonic() + seconds, do)
        heapq.heappush(self._timers, timer)
        return timer

    def watch(self, handle: int, mask: int, handler: Callable[[int], None]) -> None:
        self.handlers[handle] = handler
        self._fresh.add(handle)
        self.poll.register(handle, mask)

    def forget(self, handle: int) -> None:
        if self.handlers.pop(handle, None) is not None:
            with contextlib.suppress(OSError):
                self.poll.unregister(handle)

    def run(self) -> None:
        """Serve for ever."""
        poll, handlers, fresh = self.poll, self.handlers, self._fresh
        while True:
            timeout = -1.0
            while self._timers:
                timer = self._timers[0]
                if timer.do is not None and (timeout := timer.due - monotonic()) > 0:
                    break
                heapq.heappop(self._timers)
                if timer.do is not None:
                    timer.do()
                timeout = -1.0
            fresh.clear()
            for handle, mask in poll.poll(timeout):
                handler = handlers.get(handle)
                # What is watched since this was told may be another socket, with the number of one that was closed.
                if handler is not None and handle not in fresh:
                    handler(mask)


class End:
    """One socket of a connection.

    What is written and cannot be sent waits here. It is not read while anybody has :meth:`pause`\\ d it.

    :ivar on_data, on_eof, on_gone, on_drain: called with what was read; at the end of it; when the connection is lost
        (or, while it is not read but :attr:`guarded`, at its end); when nothing waits to be sent any more.
    :ivar frozen: nothing is sent.
    """

    def __init__(self, loop: Loop, sock: socket.socket, *, connected: bool = True) -> None:
        self.loop, self.sock = loop, sock
        self.queued = 0
        self.frozen = self.guarded = False
        self.connected = connected
        self.open = True
        self.on_data: Callable[[bytes], None] = lambda _: None
        self.on_eof: Callable[[], None] = lambda: None
        self.on_gone: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self.on_connect: Callable[[], None] = lambda: None
        self._queue: deque[bytes] = deque()
        self._reasons: set[str] = set()
        self._ended = self._finishing = self._shut = False
        self._mask = 0
        self._handle = sock.fileno()
        self.update()

    def pause(self, reason: str) -> None:
        """Read no more until :meth:`resume` with every reason that was given."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            self.update()

    def resume(self, reason: str) -> None:
        if reason in self._reasons:
            self._reasons.discard(reason)
            self.update()

    def update(self) -> None:
        """Ask the kernel for what matters now. Without any wish it is unregistered, or a lost one would wake us."""
        if not self.open:
            return
        mask = 0
        if not self._ended and self.connected:
            if not self._reasons:
                mask = select.EPOLLIN
            elif self.guarded:
                mask = select.EPOLLRDHUP
        if not self.connected or (self._queue and not self.frozen):
            mask |= select.EPOLLOUT
        if mask == self._mask:
            return
        if not self._mask:
            self.loop.watch(self._handle, mask, self.handle)
        elif not mask:
            self.loop.forget(self._handle)
        else:
            self.loop.poll.modify(self._handle, mask)
        self._mask = mask

    def handle(self, mask: int) -> None:
        if mask & select.EPOLLIN and not self._reasons:
            self.read()
        elif mask & (_GONE | select.EPOLLRDHUP) and self.connected:
            self.on_gone()
        if self.open and mask & (select.EPOLLOUT | _GONE) and not self.connected:
            self._connected()
        elif self.open and mask & select.EPOLLOUT:
            self.flush()

    def read(self) -> None:
        try:
            data = self.sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.on_gone()
            return
        if data:
            self.on_data(data)
        else:
            self._ended = True
            self.update()
            self.on_eof()

    def write(self, data: bytes) -> None:
        """Send it now as far as the other side takes it, the rest later; never blocks."""
        if not self.open or self._finishing:
            return
        if not self._queue and self.connected and not self.frozen:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._lost()
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._queue.append(data)
        self.queued += len(data)
        self.update()

    def flush(self) -> None:
        """Send what waits."""
        while self._queue and not self.frozen:
            try:
                sent = self._send(self._queue[0])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._lost()
                return
            self.queued -= sent
            if sent < len(self._queue[0]):
                self._queue[0] = self._queue[0][sent:]
                break
            self._queue.popleft()
        self.update()
        if self.queued < HIGH // 2:
            self.on_drain()
        if self._finishing and not self._queue:
            self._shutdown()

    def finish(self) -> None:
        """No more is written: tell the other side (FIN) once everything is sent."""
        self._finishing = True
        if not self._queue and self.connected:
            self._shutdown()

    @property
    def finished(self) -> bool:
        """Whether all is sent and the other side told so."""
        return self._shut or not self.open

    @property
    def ended(self) -> bool:
        """Whether the other side writes no more."""
        return self._ended or not self.open

    def close(self, *, reset: bool = False) -> None:
        """Close it: with FIN, or with RST. What waits to be sent is tried once."""
        if not self.open:
            return
        self.loop.forget(self._handle)
        with contextlib.suppress(OSError):
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            else:
                with contextlib.suppress(OSError):
                    while self._queue and not self.frozen:
                        self._send(self._queue.popleft())
                self._fin()
                # What is unread would make the kernel send RST.
                for _ in range(64):
                    if not self.sock.recv(RECEIVE):
                        break
        self.open = False
        self._queue.clear()
        self.queued = 0
        self.sock.close()

    def gone(self) -> bool:
        """Whether the other side has closed it, though it is not read."""
        if not self.open or self._ended:
            return True
        look = select.poll()
        look.register(self._handle, select.POLLRDHUP)
        return bool(look.poll(0))

    def _send(self, data: bytes) -> int:
        return self.sock.send(data)

    def _fin(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _shutdown(self) -> None:
        if not self._shut:
            self._shut = True
            with contextlib.suppress(OSError):
                self._fin()
            self.on_drain()

    def _lost(self) -> None:
        """It cannot be sent to. What it has said before is still read, if it is read at all."""
        self._queue.clear()
        self.queued = 0
        self._finishing = self._shut = True
        self.update()
        self.on_drain()
        if self._ended:
            self.on_gone()

    def _connected(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.on_gone()
            return
        self.connected = True
        self.on_connect()
        self.flush()


def no_delay(sock: socket.socket) -> None:
    """No waiting for more to send (Nagle); nothing to do on a unix socket."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def dial(loop: Loop, address: Any, tls: dict[str, Any] | None) -> End:
    """Begin to connect to a server: ``[host, port]``, or the path of a unix socket.

    :raises OSError: nobody is there.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        no_delay(sock)
        error = sock.connect_ex(address if isinstance(address, str) else (address[0], address[1]))
        if error not in (0, 115):  # EINPROGRESS
            raise OSError(error, "connect")
        if tls is not None:
            from pytest_celery_chaos.network.tls import TlsEnd

            return TlsEnd(loop, sock, tls, None if isinstance(address, str) else address[0])
        return End(loop, sock, connected=not error)
    except BaseException:
        sock.close()
        raise
