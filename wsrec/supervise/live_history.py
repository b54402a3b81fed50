"""The last minutes of each connection's latency, for the sparklines of the live view."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import log

from wsrec.supervise.state import ConnectionState, RecorderState

PERIOD_NS = 5_000_000_000
"""Time between two values (ns)."""
MOST = 120
"""Values that are kept of a connection: ten minutes."""
BARS = "▁▂▃▄▅▆▇█"

_Key = tuple[str, int]


class History:
    """The 99th percentile (ns) of each connection, every `PERIOD_NS`; None for a period without messages."""

    def __init__(self) -> None:
        self._values: dict[_Key, deque[int | None]] = {}
        self._last: int | None = None

    def add(self, state: RecorderState) -> None:
        """Keep a state's latencies, if it is time."""
        if self._last is not None and 0 <= state.time - self._last < PERIOD_NS:
            return
        self._last = state.time
        for each in state.connections:
            values = self._values.setdefault((each.feed, each.conn), deque(maxlen=MOST))
            values.append(each.latency.p99)

    def of(self, connection: ConnectionState, most: int) -> list[int | None]:
        """The last values of a connection, at most `most`, the newest last."""
        values = self._values.get((connection.feed, connection.conn), ())
        return list(values)[-most:] if most > 0 else []


def sparkline(values: Sequence[int | None], low: int, high: int) -> str:
    """A bar for each value, on a logarithmic scale from `low` to `high`; a space for None."""
    low = max(low, 1)
    span = log(max(high, low) / low) or 1.0

    def bar(value: int) -> str:
        place = int(log(max(value, low) / low) / span * len(BARS))
        return BARS[min(place, len(BARS) - 1)]

    return "".join(" " if value is None else bar(value) for value in values)
