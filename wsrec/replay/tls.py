"""A certificate authority and a server certificate for loopback, generated at start."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trustme

_PEM = b"-----BEGIN CERTIFICATE-----"


class TlsError(Exception):
    """The CA's certificate cannot be written to the given path, or that holds something else."""


class UnwritableCaError(TlsError):
    """The system refuses to write the CA's certificate."""


@contextlib.contextmanager
def self_signed(host: str, ca_out: Path | None = None) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """Make a server's TLS context and the PEM file of the CA that a client has to trust.

    The private key is on disk only while `ssl` loads it (it accepts nothing but files): mode 0600, removed at once.

    Args:
        host: name or address of the certificate, besides localhost, 127.0.0.1 and ::1.
        ca_out: where to write the CA's certificate; None: a private temporary folder, removed at the end.

    Raises:
        UnwritableCaError: `ca_out` cannot be written.
        TlsError: it contains something other than a certificate.

    """
    authority = trustme.CA(organization_name="wsrec replay")
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", host])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, organization_name="wsrec replay").configure_cert(context)
    pem = authority.cert_pem.bytes()
    if ca_out is not None:
        _write(ca_out, pem)
        yield context, ca_out
        return
    with tempfile.TemporaryDirectory(prefix="wsrec-ca-") as folder:
        path = Path(folder, "ca.pem")
        path.write_bytes(pem)
        yield context, path


def _write(path: Path, pem: bytes) -> None:
    try:
        if path.exists() and path.read_bytes()[: len(_PEM)] not in (_PEM, b""):
            raise TlsError(f"{path}: exists and is not a certificate; use another path")
        path.write_bytes(pem)
    except OSError as error:
        raise UnwritableCaError(f"{path}: cannot be written: {error.strerror}") from error
