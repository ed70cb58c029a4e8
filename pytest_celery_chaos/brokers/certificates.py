"""A certificate authority and a certificate, made for one server of one run (trustme)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_celery_chaos.errors import UsageError


@dataclass(frozen=True)
class Certificates:
    """Files in PEM.

    :param ca: whom clients are to trust; nothing in it is secret.
    :param cert: the server's, with its chain.
    :param key: the server's private key.
    """

    ca: Path
    cert: Path
    key: Path

    @property
    def lines(self) -> list[str]:
        """Of the server's configuration. Clients need no certificate of their own."""
        return [
            f'tls-cert-file "{self.cert}"',
            f'tls-key-file "{self.key}"',
            "tls-auth-clients no",
        ]


def issue(hosts: Sequence[str], ca: Path, folder: Path, *, mode: int = 0o600) -> Certificates:
    """Make a certificate authority that nobody else trusts, and a certificate of it.

    :param hosts: names and addresses under which the server is reached.
    :param ca: where the authority's certificate is to lie.
    :param folder: for the server's certificate and key.
    :param mode: of the key, for a server that runs as another user.
    :raises UsageError: trustme is not installed.
    """
    try:
        import trustme
    except ImportError:
        raise UsageError(
            "`tls: true` needs trustme, which makes the certificates",
            hint="pip install pytest-celery-chaos[tls]",
        ) from None
    authority = trustme.CA()
    issued = authority.issue_cert(*hosts)
    made = Certificates(ca, folder / "server.pem", folder / "server.key")
    ca.parent.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(ca))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(made.cert), append=number > 0)
    made.cert.chmod(0o644)
    with os.fdopen(os.open(made.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(issued.private_key_pem.bytes())
    made.key.chmod(mode)
    return made
