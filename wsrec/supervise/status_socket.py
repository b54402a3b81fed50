"""The socket on which a recorder answers `wsrec status`: its name, and the form of the answer.

An AF_UNIX socket with an abstract name (unix(7)), made of the output folder's `.wsrec` (its inode) and the recorder's
process id, both of which a reader finds there: the id is in the lock files. So nothing is left behind by a recorder
that is killed, nothing is in the way of what removes a session's folder, a full or hanging disk is no obstacle, no path
is longer than the 108 bytes of an address, and two recorders of a folder, during a takeover, have a socket each. An
abstract socket has no file mode: the recorder asks the kernel who connects (SO_PEERCRED) and answers only its own user
and root, and the reader asks who answers.

Whoever connects gets one JSON object, an `Answer`, and the end of the stream.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import msgspec

from wsrec.format.layout import own_folder
from wsrec.supervise.state import RecorderState

FORM = 1
"""Of `RecorderState`: raised if a reader of an earlier version could not read it."""

_PEER = struct.Struct("3i")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an answer that every version can read.

    Attributes:
        form: see `FORM`.
        version: the recorder's version of wsrec.
        refused: why it does not answer; None if it does.

    """

    form: int
    version: str
    refused: str | None = None


class Answer(Header, frozen=True, kw_only=True):
    """The answer of a recorder."""

    state: RecorderState


def address(out: Path, pid: int) -> str:
    """The socket's name.

    Raises:
        OSError: the output folder cannot be read.

    """
    return f"\0wsrec/{own_folder(out).stat().st_ino}/{pid}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other end (SO_PEERCRED, unix(7))."""
    pid, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user
