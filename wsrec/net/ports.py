"""Default ports of URL schemes."""

from __future__ import annotations

# RFC 6455 section 3 has those of WebSocket, RFC 9110 section 4.2 those of HTTP; of a proxy `http://` means the same
DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
