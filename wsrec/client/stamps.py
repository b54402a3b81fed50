"""The six stamps of a message as the library gives them."""

from __future__ import annotations

from typing import NamedTuple


class Stamps(NamedTuple):
    """When a message passed each of the six stages (docs/stages.md), in ns.

    `nic` is on the realtime clock, ns since the epoch, and None where there is no stamp: `Message.source` says why. The
    others are on one monotonic clock and never decrease; `wsrec.anchor()` maps them onto UTC.
    """

    nic: int | None
    event: int
    recv_start: int
    recv_end: int
    parsed: int
    handoff: int
