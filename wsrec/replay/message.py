"""One message of a recording, and what is said when a recording cannot be read."""

from __future__ import annotations

from typing import Literal, NamedTuple

Opcode = Literal["text", "binary"]


class SourceError(Exception):
    """A source is missing, damaged or of no known form; the message names the file (and line) and the hint."""


class UnreadableSourceError(SourceError):
    """The system does not let a source be read: nothing is known of it."""


class Message(NamedTuple):
    """One recorded message.

    Attributes:
        time_ns: when it arrived (ns since the epoch); only differences matter for pacing.
        opcode: the frame it came in.
        payload: its bytes, exactly.
        conn: the recording's connection it came over.

    """

    time_ns: int
    opcode: Opcode
    payload: bytes
    conn: int
