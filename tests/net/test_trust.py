"""Whom TLS trusts: a name counts where the certificate has it as a subject alternative name (RFC 6125, RFC 9525)."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import wsrec
from tests.feed.test_listing import feed as listing_feed
from tests.receive.test_tls import MODES, make
from wsrec.feed.errors import ConfigError
from wsrec.feed.listing import all_symbols
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch
from wsrec.net.trust import tls_context
from wsrec.options.record import TlsMode
from wsrec.receive import ktls
from wsrec.receive.tls_choice import TlsPolicy

PACKAGE = Path(wsrec.__file__).parent


@pytest.fixture
def named_by_its_subject_only(authority, tmp_path) -> Iterator[int]:
    """Port of a server of `localhost` whose certificate, by a CA that is trusted, has the name in its subject alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    ca_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                plain.settimeout(5)
                with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as client:
                    client.recv(4096)

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


class TestANameInTheSubjectAloneIsNone:
    @pytest.mark.parametrize("mode", MODES)
    def test_to_a_receiver(self, named_by_its_subject_only, ca_file, mode):
        async def run() -> None:
            sock = socket.create_connection(("127.0.0.1", named_by_its_subject_only))
            sock.setblocking(False)
            transport = make(mode, sock, TlsPolicy(TlsMode.STAMPED, str(ca_file)).context, "localhost")
            try:
                await transport.handshake()
            finally:
                transport.close()

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            asyncio.run(run())

    def test_to_a_receiver_whose_kernel_decrypts(self, named_by_its_subject_only, ca_file):
        context = ktls.enable(tls_context(str(ca_file)))
        with (
            socket.create_connection(("127.0.0.1", named_by_its_subject_only)) as sock,
            pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
        ):
            context.wrap_socket(sock, server_hostname="localhost")

    def test_to_the_library(self, named_by_its_subject_only, ca_file):
        async def run() -> None:
            async with wsrec.connect(f"wss://localhost:{named_by_its_subject_only}", on_message=print, ca_file=ca_file):
                pass

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            asyncio.run(run())

    def test_to_who_fetches_a_snapshot(self, named_by_its_subject_only, ca_file):
        url, context = f"https://localhost:{named_by_its_subject_only}/x", tls_context(str(ca_file))
        with pytest.raises(HttpError, match="Hostname mismatch"):
            fetch(url, context=context, limit=1, timeout=30)

    def test_to_who_asks_for_symbols_or_a_token(self, named_by_its_subject_only, ca_file, monkeypatch, tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(ConfigError, match="certificate not verified: Hostname mismatch"):
            all_symbols(listing_feed(f"https://localhost:{named_by_its_subject_only}"))


def test_there_is_one_way_to_make_a_context_that_verifies():
    made = re.compile(r"create_default_context|_create_unverified_context|PROTOCOL_TLS_CLIENT|SSLContext\(\)")
    found = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if made.search(file.read_text())}
    assert found == {"net/trust.py"}
