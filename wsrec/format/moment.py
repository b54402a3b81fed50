"""A moment on two clocks: UTC, which may be set, and the monotonic clock that defines the order."""

from __future__ import annotations

import time
from typing import NamedTuple


class Moment(NamedTuple):
    """One moment.

    Attributes:
        utc: ns since the epoch.
        stage: ns on the session's stage clock, which is never set; None if it was found after the session.

    """

    utc: int
    stage: int | None

    @classmethod
    def now(cls) -> Moment:
        """The current moment, in a process of the session: the stage clock is, or follows, CLOCK_MONOTONIC."""
        return cls(time.time_ns(), time.monotonic_ns())

    @classmethod
    def afterwards(cls) -> Moment:
        """The current moment, in a process outside the session: the machine may have rebooted since."""
        return cls(time.time_ns(), None)

    @property
    def order(self) -> tuple[bool, int]:
        """Sort key in order of occurrence; moments after the session come last."""
        return self.stage is None, self.stage or 0

    def before(self, stage: int) -> int:
        """UTC (ns since the epoch) of an earlier moment on the stage clock."""
        return self.utc if self.stage is None else self.utc - (self.stage - stage)
