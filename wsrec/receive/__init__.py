"""The receiver process: sockets, kernel timestamps, TLS and the six-stage hot path."""
