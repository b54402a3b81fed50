"""The state of a recorder in one line: for logs, and for whoever asks on a narrow channel."""

from __future__ import annotations

from wsrec.supervise.state import RecorderState
from wsrec.units import duration, plural, size


def summary_line(state: RecorderState) -> str:
    """The progress of a recording, with rates and latencies of the last window."""
    counts, total = state.counts, state.steps[-1].latency
    parts = [
        f"{plural(counts.messages, 'message')} ({state.rate:,.0f}/s)",
        size(counts.payload_bytes),
        f"{state.connected}/{len(state.connections)} connected",
        f"total p50 {duration(total.p50)} p99 {duration(total.p99)}",
        f"ring {state.ring_fill:.0%}",
        f"journal lag {duration(state.journal_lag_ns)}",
        plural(state.reconnects, "reconnect"),
        plural(state.stalls, "stall"),
        plural(counts.gaps, "gap"),
        plural(counts.lost_intervals, "lost interval"),
    ]
    if state.restarts:
        parts.append(plural(state.restarts, "restart"))
    if state.disk_trouble:
        parts.append("DISK ERRORS")
    return ", ".join(parts)
