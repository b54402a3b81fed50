"""Made-up states of recorders, for tests of what shows them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from wsrec.counts import Counts
from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.state import (
    ConnectionState,
    DiskState,
    Latency,
    RecorderState,
    StepState,
    WarningState,
)

SECOND = 1_000_000_000
BEGAN = 1_795_000_000 * SECOND


def connection(conn: int, feed: str = "binance", **differing: Any) -> ConnectionState:
    """An open connection whose figures differ from those of others."""
    usual = ConnectionState(
        feed=feed,
        conn=conn,
        active=conn,
        host=f"stream.{feed}.example:9443",
        state="open",
        opened_ns=1000 * SECOND,
        age_ns=(conn * 7 % 50 + 1) * 1_000_000,
        messages=1000 * conn,
        payload_bytes=100_000 * conn,
        wire_bytes=110_000 * conn,
        rate=float(conn * 37 % 1000),
        latency=Latency(20_000 + 100 * conn, 90_000 + conn * 777 % 5000 * 100),
        reconnects=0,
        stalls=0,
    )
    return replace(usual, **differing)


def state(connections: int = 1, feeds: tuple[str, ...] = ("binance",), **differing: Any) -> RecorderState:
    """The state of a recorder of so many connections, dealt to the feeds in turn."""
    usual = RecorderState(
        version="1.2.3",
        pid=4711,
        out="/data/captures",
        holds_folder=True,
        sessions=("20261128T000000Z-abcdef",),
        targets=feeds,
        feeds=feeds,
        time=BEGAN + 5000 * SECOND,
        began=BEGAN,
        until=BEGAN + 8000 * SECOND,
        phase="recording",
        reason=None,
        connections=tuple(connection(conn, feeds[conn % len(feeds)]) for conn in range(connections)),
        counts=Counts(messages=12_345_678_901, payload_bytes=987_654_321_000),
        window_ns=10 * SECOND,
        rate=1_234_567.0,
        payload_rate=900e6,
        wire_rate=987e6,
        steps=tuple(StepState(each.key, Latency(123_456, 59_900_000_000)) for each in (*STEPS, TOTAL)),
        ring_fill=0.125,
        journal_lag_ns=12_345_678,
        waiting=3,
        files=12_345,
        journalled_bytes=10**12,
        disk=DiskState(free=80_000_000_000, full_in_ns=12 * 86_400 * SECOND),
        disk_trouble=False,
        next_rotation=BEGAN + 6000 * SECOND,
        reconnects=0,
        stalls=0,
        restarts=0,
        processes=(),
        log_lines={},
        warnings=(),
    )
    return replace(usual, **differing)


def warnings(kinds: int) -> tuple[WarningState, ...]:
    """Warnings of so many kinds, the newest first."""
    return tuple(
        WarningState(
            level="warning",
            count=index + 1,
            time=BEGAN + (4000 - index) * SECOND,
            message=f"kind {index}: {'a long story ' * 20}",
            hint="a hint",
            feed="binance",
            conn=None if index else 0,
        )
        for index in range(kinds)
    )
