r"""Text recordings: one line per message, plain or gzip. The first line decides which of two formats.

Lines (Binance recordings of hftbacktest)::

    1723161255088176367 {"stream":"btcusdt@trade",...}         receive time in ns, a space, the message

Sessions (cryptofeed)::

    wss://ws.kraken.com <-> 1618678132.3858151                 a connection opened, time in s
    wss://ws.kraken.com <- 1618678132.8253062: {"event":...}   sent by the client: not replayed
    1618678132.8258188: {"connectionID":...}                   received
    1618678070.733454: b'\x1f\x8b...'                          received in a binary frame, as Python writes bytes
"""

from __future__ import annotations

import ast
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wsrec.replay.message import Message, SourceError

_MAX_LINE = 64 << 20  # the largest message that wsrec records; a "line" without end must not fill the memory
_GZIP = b"\x1f\x8b"

_NS_LINE = re.compile(rb"(\d{16,19}) (.*)", re.DOTALL)
_RECEIVED = re.compile(rb"(\d{1,10})(?:\.(\d{1,9})\d*)?: (.*)", re.DOTALL)
_OPENED = re.compile(rb"\S+ <-> \d+(?:\.\d+)?")
_SENT = re.compile(rb"\S+ <- \d+(?:\.\d+)?: .*", re.DOTALL)
_BYTES_LITERAL = re.compile(rb"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def read(path: Path) -> Iterator[Message]:
    """The received messages of a text recording, in the order of its lines.

    Raises:
        SourceError: the file cannot be read, is truncated, or a line does not match the file's format.

    """
    try:
        with path.open("rb") as raw:
            compressed = raw.peek(2)[:2] == _GZIP
            # GzipFile's own readline is Python; through a BufferedReader it is C
            file: BinaryIO = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if compressed else raw
            yield from _messages(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(
            f"{path}: the gzip file is damaged or truncated; "
            f"`gzip -dc {path.name} > part.txt` saves the part before the damage"
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from error


def _messages(path: Path, file: BinaryIO) -> Iterator[Message]:
    number = 0
    conn = -1
    ns_lines: bool | None = None
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise SourceError(f"{path}:{number}: longer than {_MAX_LINE >> 20} MiB; this is not a text recording")
        line = line.removesuffix(b"\n")
        if not line:
            continue
        if ns_lines is None:
            ns_lines = _NS_LINE.fullmatch(line) is not None
            if not ns_lines and not (_OPENED.fullmatch(line) or _SENT.fullmatch(line) or _RECEIVED.fullmatch(line)):
                raise SourceError(
                    f"{path}: neither a Parquet file of wsrec nor a text recording "
                    "(docs/how-to/replay.md shows the forms)"
                )
        if ns_lines:
            found = _NS_LINE.fullmatch(line)
            if not found:
                raise SourceError(f"{path}:{number}: not of the form `NANOSECONDS MESSAGE`; remove or repair the line")
            payload = found[2]
            # a text frame is UTF-8 by the protocol, so any other bytes were in a binary one
            yield Message(int(found[1]), "text" if _is_utf8(payload) else "binary", payload, 0)
        elif found := _RECEIVED.fullmatch(line):
            time_ns = int(found[1]) * 1_000_000_000 + int((found[2] or b"0").ljust(9, b"0"))
            payload = found[3]
            if _BYTES_LITERAL.fullmatch(payload):
                yield Message(time_ns, "binary", _unquoted(path, number, payload), max(conn, 0))
            else:
                yield Message(time_ns, "text" if _is_utf8(payload) else "binary", payload, max(conn, 0))
        elif _OPENED.fullmatch(line):
            conn += 1
        elif not _SENT.fullmatch(line):
            raise SourceError(
                f"{path}:{number}: not of the form `SECONDS: MESSAGE`, `URL <-> SECONDS` or `URL <- SECONDS: MESSAGE`; "
                "remove or repair the line"
            )


def _is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unquoted(path: Path, number: int, literal: bytes) -> bytes:
    try:
        value: object = ast.literal_eval(literal.decode("ascii"))
    except (ValueError, SyntaxError) as error:  # UnicodeDecodeError is a ValueError
        raise SourceError(f"{path}:{number}: this message's bytes literal is invalid; remove the line") from error
    assert isinstance(value, bytes)
    return value
