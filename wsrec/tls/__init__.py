"""TLS records after OpenSSL's handshake: libcrypto, keys, the record layer. No sockets, no clocks.

Secrets are held in `bytearray`s, which are wiped: `bytes` cannot be. None is in a `repr`, an exception or a log.
"""
