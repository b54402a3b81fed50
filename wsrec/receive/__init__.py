"""The receiver process: sockets, kernel timestamps, TLS, the hot path, reconnection. Never imports the writer."""
