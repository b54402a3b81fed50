"""Messages of a recording, and the errors of reading one."""

from __future__ import annotations

from typing import Literal, NamedTuple

Opcode = Literal["text", "binary"]


class SourceError(Exception):
    """A source is missing, damaged or of an unknown format; the message names the file (and line) and what to do."""


class NoSourceError(SourceError):
    """A source holds no capture, or no message: there is nothing to replay."""


class UnreadableSourceError(SourceError):
    """The system denies reading a source, so nothing is known about it."""


class Message(NamedTuple):
    """One recorded message.

    Attributes:
        time_ns: arrival time (ns since the epoch); only differences matter for pacing.
        opcode: type of its frame.
        payload: the exact bytes.
        conn: number of the connection in the recording.

    """

    time_ns: int
    opcode: Opcode
    payload: bytes
    conn: int
