"""TLS: the certificate is verified unless one says otherwise."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery, states
from kombu import Connection
from kombu.exceptions import OperationalError

from pytest_celery_chaos.brokers.certificates import issue
from pytest_celery_chaos.brokers.local import LocalServer
from pytest_celery_chaos.clients.rebind import leave_results_alone

from .test_transport import payloads, publish, take


class Secure:
    """A server behind TLS, and who vouches for it. Few builds of a server speak it: something before it does."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        made = issue(["127.0.0.1"], folder / "ca.pem", folder)
        self.ca = made.ca
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(made.cert, made.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return int(listener.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection(self.server.host, self.server.port)
        await asyncio.gather(_pump(reader, outer), _pump(inner, writer))

    def close(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def address(self, scheme: str, db: int = 0, *, verified: bool = True) -> str:
        query = f"ssl_cert_reqs=required&ssl_ca_certs={self.ca}" if verified else "ssl_cert_reqs=none"
        return f"{scheme}s://127.0.0.1:{self.port}/{db}?{query}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture(scope="module")
def secure(launch: Callable[..., LocalServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    secure = Secure(launch(), tmp_path_factory.mktemp("tls"))
    yield secure
    secure.close()


@pytest.mark.parametrize("verified", [True, False])
def test_messages_and_results_go_over_tls(scheme: str, secure: Secure, verified: bool) -> None:
    connection = Connection(secure.address(scheme, verified=verified))
    publish(connection, "a")
    assert payloads(take(connection)) == ["a"]
    app = Celery("shop", backend=secure.address(scheme, 1, verified=verified), set_as_current=False)
    app.backend.store_result("t1", 1, states.SUCCESS)
    assert app.AsyncResult("t1").get(timeout=5) == 1
    connection.release()
    leave_results_alone(app.backend)


def test_the_settings_of_celery_for_tls_hold(scheme: str, secure: Secure) -> None:
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(secure.ca)}
    app = Celery("shop", broker=secure.address(scheme), backend=secure.address(scheme, 1), set_as_current=False)
    app.conf.broker_use_ssl = app.conf.redis_backend_use_ssl = tls
    with app.connection_for_write() as connection:
        publish(connection, "a")
    app.backend.store_result("t1", 1, states.SUCCESS)
    leave_results_alone(app.backend)


def test_a_certificate_that_nobody_vouches_for_is_refused(scheme: str, secure: Secure) -> None:
    address = f"{scheme}s://127.0.0.1:{secure.port}/0?ssl_cert_reqs=required"
    connection = Connection(address, transport_options={"max_retries": 1})  # kombu 5.5 would try for ever
    with pytest.raises(OperationalError, match="certificate verify failed"):
        publish(connection, "a")
    app = Celery("shop", backend=address, set_as_current=False)
    with pytest.raises(app.backend.connection_errors, match="certificate verify failed"):
        app.backend.get("x")


def test_a_backend_must_say_what_it_verifies(scheme: str, secure: Secure) -> None:
    app = Celery("shop", backend=f"{scheme}s://127.0.0.1:{secure.port}/0", set_as_current=False)
    with pytest.raises(ValueError, match="ssl_cert_reqs"):
        app.backend.get("x")


def test_valkeys_verifies_where_rediss_does_not(secure: Secure, scheme: str) -> None:
    connection = Connection(f"{scheme}s://127.0.0.1:{secure.port}/0", transport_options={"max_retries": 1})
    if scheme == "redis":
        publish(connection, "a")
    else:
        with pytest.raises(OperationalError, match="certificate verify failed"):
            publish(connection, "a")
