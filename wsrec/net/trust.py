"""Whom TLS trusts: the one place where a context that verifies is made."""

from __future__ import annotations

import ssl


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that verifies certificates and host names, trusting the system's CAs and those in `ca_file` (PEM).

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: it holds no certificate.

    """
    context = ssl.create_default_context()
    # else OpenSSL takes the subject's common name where a certificate has no subject alternative name; no CA checks
    # what stands there (RFC 9525 section 2)
    context.hostname_checks_common_name = False
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
