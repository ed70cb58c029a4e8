"""The end of a connection to a server that speaks TLS; the client's side stays plain, since it is loopback."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import Any

from pytest_celery_chaos.network.loop import RECEIVE, End, Loop


class TlsEnd(End):
    """An :class:`End` whose bytes are encrypted.

    :param options: ``ca``, ``cert``, ``key``: files; ``verify``: false takes any certificate.
    """

    sock: ssl.SSLSocket

    def __init__(self, loop: Loop, sock: socket.socket, options: dict[str, Any], host: str | None) -> None:
        context = ssl.create_default_context(cafile=options.get("ca"))
        if not options.get("verify", True):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif host is None or not options.get("hostname", True):
            context.check_hostname = False
        if options.get("cert"):
            context.load_cert_chain(options["cert"], options.get("key"))
        wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        self._shaking = False
        super().__init__(loop, wrapped, connected=False)

    def update(self) -> None:
        if self._shaking and self.open:
            if self._mask != select.EPOLLIN:
                self.loop.forget(self._handle)
                self.loop.watch(self._handle, select.EPOLLIN, self.handle)
                self._mask = select.EPOLLIN
            return
        super().update()

    def handle(self, mask: int) -> None:
        if self._shaking:
            self._shake()
        else:
            super().handle(mask)

    def _connected(self) -> None:
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.on_gone()
        else:
            self._shake()

    def _shake(self) -> None:
        """Go on with the handshake. It is small: the socket always takes what we send."""
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._shaking = True
        except (ssl.SSLWantWriteError, BlockingIOError):
            self._shaking = False
        except OSError:
            self._shaking = False
            self.on_gone()
            return
        else:
            self._shaking = False
            self.connected = True
            self.on_connect()
            self.flush()
        self.update()

    def read(self) -> None:
        while self.open and not self._reasons:
            try:
                data = self.sock.recv(RECEIVE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return
            except ssl.SSLEOFError:
                data = b""
            except OSError:
                self.on_gone()
                return
            if not data:
                self._ended = True
                self.update()
                self.on_eof()
                return
            self.on_data(data)
            if not self.sock.pending():
                return

    def resume(self, reason: str) -> None:
        super().resume(reason)
        # What is decrypted already is no reason for the kernel to wake us.
        if self.open and not self._reasons and self.connected and self.sock.pending():
            self.loop.later(0, self.read)

    def write(self, data: bytes) -> None:
        # OpenSSL wants the same bytes again after a partial write: it gets them from the queue.
        if self.open and not self._finishing:
            self._queue.append(data)
            self.queued += len(data)
            if self.connected and not self.frozen:
                self.flush()

    def _send(self, data: bytes) -> int:
        try:
            return self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError(str(error)) from None

    def _fin(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()
        socket.socket.shutdown(self.sock, socket.SHUT_WR)
