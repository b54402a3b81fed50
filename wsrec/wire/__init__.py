"""The WebSocket conversation (RFC 6455) without I/O or clocks."""
