"""wsrec records exchange WebSocket feeds, byte for byte and timestamped at six stages, into Parquet.

As a library it receives them in the caller's own process, with the same timestamps: `connect`
(docs/how-to/library.md), and reads recordings: `open_capture` (docs/how-to/reading.md), `books` (docs/how-to/books.md).
"""

# what is imported here comes before the command can handle a signal: nothing is
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from wsrec.client.arrivals import Arrival
    from wsrec.client.connecting import connect
    from wsrec.client.connection import Connection
    from wsrec.client.errors import ConnectionClosed
    from wsrec.client.fields import MessageFieldReader, MessageFields
    from wsrec.client.implementation import Message
    from wsrec.client.stamps import Stamps
    from wsrec.feed.errors import ConfigError
    from wsrec.format.copies import RepeatedFileWarning
    from wsrec.format.errors import CaptureError, UnreadableError
    from wsrec.format.reading import Capture, DamagedFile, DamagedFileWarning, SessionInfo, open_capture
    from wsrec.host.clock import Anchor, anchor
    from wsrec.net.tunnel import ProxyError
    from wsrec.order_books.books import Books, books
    from wsrec.stages import StampSource
    from wsrec.version import __version__
    from wsrec.wire.errors import HandshakeError, HandshakeRefused

__all__ = [
    "Anchor",
    "Arrival",
    "Books",
    "Capture",
    "CaptureError",
    "ConfigError",
    "Connection",
    "ConnectionClosed",
    "DamagedFile",
    "DamagedFileWarning",
    "HandshakeError",
    "HandshakeRefused",
    "Message",
    "MessageFieldReader",
    "MessageFields",
    "ProxyError",
    "RepeatedFileWarning",
    "SessionInfo",
    "StampSource",
    "Stamps",
    "UnreadableError",
    "__version__",
    "anchor",
    "books",
    "connect",
    "open_capture",
]

# imported on first use, so that the command starts without them
_HOMES = {
    "Anchor": "wsrec.host.clock",
    "Arrival": "wsrec.client.arrivals",
    "Books": "wsrec.order_books.books",
    "Capture": "wsrec.format.reading",
    "CaptureError": "wsrec.format.errors",
    "ConfigError": "wsrec.feed.errors",
    "Connection": "wsrec.client.connection",
    "ConnectionClosed": "wsrec.client.errors",
    "DamagedFile": "wsrec.format.reading",
    "DamagedFileWarning": "wsrec.format.reading",
    "HandshakeError": "wsrec.wire.errors",
    "HandshakeRefused": "wsrec.wire.errors",
    "Message": "wsrec.client.implementation",
    "MessageFieldReader": "wsrec.client.fields",
    "MessageFields": "wsrec.client.fields",
    "ProxyError": "wsrec.net.tunnel",
    "RepeatedFileWarning": "wsrec.format.copies",
    "SessionInfo": "wsrec.format.reading",
    "StampSource": "wsrec.stages",
    "Stamps": "wsrec.client.stamps",
    "UnreadableError": "wsrec.format.errors",
    "__version__": "wsrec.version",
    "anchor": "wsrec.host.clock",
    "books": "wsrec.order_books.books",
    "connect": "wsrec.client.connecting",
    "open_capture": "wsrec.format.reading",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
