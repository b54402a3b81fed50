"""Job and endpoint of a replay server."""

from __future__ import annotations

import msgspec

DEMO = "demo"


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve and how.

    Attributes:
        sources: files, folders and globs; or `demo` alone for the synthetic market.
        host: address to listen on.
        port: 0 for a free one.
        tls_self_signed: serve `wss://` with a certificate generated at start.
        ca_out: where to write its CA's certificate; None: a temporary folder, removed at the end.
        speed: factor of the recorded pace; None: as fast as the clients read. Recordings only.
        loop: start over at the end. Recordings only.
        rate: mean messages per second. `demo` only.
        seed: seed of the market's random numbers. `demo` only.
        ping_interval: seconds between protocol pings; None: none.
        wait_subscribe: start a client's stream at its first subscription.

    """

    sources: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 0
    tls_self_signed: bool = False
    ca_out: str | None = None
    speed: float | None = 1.0
    loop: bool = False
    rate: float = 1000.0
    seed: int = 1
    ping_interval: float | None = None
    wait_subscribe: bool = False


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a running replay server.

    Attributes:
        source: what is served.
        url: `ws://` or `wss://`, address and port; any path may follow.
        ca_file: PEM file that a client has to trust; None without TLS.

    """

    source: str
    url: str
    ca_file: str | None
