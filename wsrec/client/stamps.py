"""The six timestamps of a message, as the library returns them."""

from __future__ import annotations

from typing import NamedTuple


class Stamps(NamedTuple):
    """When a message passed each of the six stages (docs/explanation/stages.md), in ns.

    `nic` is on the realtime clock, ns since the epoch, and None without a timestamp: `Message.source` says why. The
    others are on one monotonic clock and never decrease; `wsrec.anchor()` relates them to UTC.
    """

    nic: int | None
    event: int
    recv_start: int
    recv_end: int
    parsed: int
    handoff: int
