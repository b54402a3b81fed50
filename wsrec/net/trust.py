"""TLS trust: the only place where a verifying `SSLContext` is created."""

from __future__ import annotations

import ssl


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that verifies certificates and host names, trusting the system's CAs and those in `ca_file` (PEM).

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: the file holds no certificate.

    """
    context = ssl.create_default_context()
    # otherwise OpenSSL falls back to the subject's common name when a certificate has no subject alternative name, and
    # CAs do not check that field (RFC 9525 section 2)
    context.hostname_checks_common_name = False
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            # OpenSSL does not say which file it was
            error.filename = ca_file
            raise
    return context
