"""The state of a recorder in one line: for logs, and for whoever asks on a narrow channel."""

from __future__ import annotations

from wsrec.supervise.state import RecorderState
from wsrec.units import duration, size


def summary_line(state: RecorderState) -> str:
    """The progress of a recording, with rates and latencies of the last window."""
    counts, total = state.counts, state.steps[-1].latency
    return (
        f"{counts.messages:,} messages ({state.rate:,.0f}/s), {size(counts.payload_bytes)}, "
        f"{state.connected}/{len(state.connections)} connected, total p50 {duration(total.p50)} "
        f"p99 {duration(total.p99)}, ring {state.ring_fill:.0%}, journal lag {duration(state.journal_lag_ns)}, "
        f"{state.reconnects} reconnects, {state.stalls} stalls, {counts.gaps} gaps, "
        f"{counts.lost_intervals} lost intervals"
        f"{f', {state.restarts} restarts' if state.restarts else ''}"
        f"{', DISK ERRORS' if state.disk_trouble else ''}"
    )
