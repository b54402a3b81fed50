"""The figures of a capture: the structs that a page draws, and that CSV files are made of.

All of them encode as JSON. Times are ns since the epoch (UTC) and durations ns, both whole numbers; a time does not fit
the doubles of JavaScript exactly. Names of channels, symbols and hosts are as the exchange or the machine wrote them:
they are escaped where they are shown.

Frames with a stamp of stage 1 and frames without are never in one figure: wherever a total is drawn there is an entry
for each of the two that occurs, named by its key (`wsrec.stages.TOTAL`, `TOTAL_WITHOUT_NIC`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wsrec.report.model import Report

PERCENTILES = (
    *(0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.0, 98.0),
    *(99.0, 99.25, 99.5, 99.7, 99.8, 99.9, 99.95, 99.97, 99.98, 99.99, 99.995, 99.997, 99.998, 99.999),
)
"""The percentiles of a curve."""
TIME_ERROR = 1 / 64
"""The largest relative error of percentiles over time."""
CURVE_ERROR = 1 / 128
"""The largest relative error of percentiles of a curve."""

TotalKey = Literal["total", "event_to_handoff"]
"""Which total: from stage 1 (NIC) to 6, or, of frames without stage 1, from stage 2 (EVENT) to 6."""


class LatencyOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """The total of each frame over time. All lists are as long as `OverTime.begins`; null: no such frame then.

    Attributes:
        key: which total.
        name: ``NIC->HANDOFF`` or ``EVENT->HANDOFF``.
        count: frames.
        p50, p90, p99, p999: ns, within `TIME_ERROR`.
        max: ns, exact.
        slowest: for each time the slowest frames (at most 3, the slowest first), as indices of `slow`.
        slow: the frames that `slowest` refers to.

    """

    key: TotalKey
    name: str
    count: list[int]
    p50: list[int | None]
    p90: list[int | None]
    p99: list[int | None]
    p999: list[int | None]
    max: list[int | None]
    slowest: list[list[int]]
    slow: list[SlowFrame]


class DelayOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """`recv_time` minus `exchange_time` over time, as of `wsrec.report.model.Delay`: both clocks are in it.

    All lists are as long as `OverTime.begins`; null: no message with an exchange time then.

    Attributes:
        count: messages with an exchange time.
        p50, p99: ns, within `TIME_ERROR`; may be negative.

    """

    count: list[int]
    p50: list[int | None]
    p99: list[int | None]


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """Received messages in steps of time, by `recv_time`. A step without any message is left out.

    Attributes:
        width: of a step (ns): 1 s times a power of two, from 1/512 s; the shortest with which there are at most 600
            steps with messages or events.
        begins: the beginning of each step, ascending multiples of `width`.
        messages: received in each step; divided by `width` their rate.
        read_bytes: taken from the sockets by the reads that completed these messages (TLS `direct`, `stamped`:
            ciphertext; `ktls`, `openssl`: decrypted).
        latency: of each total that occurs.
        delay: null without exchange times.

    """

    width: int
    begins: list[int]
    messages: list[int]
    read_bytes: list[int]
    latency: list[LatencyOverTime]
    delay: DelayOverTime | None


class SlowFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One received frame.

    Attributes:
        time: its `recv_time`.
        session, file, seq: where it is: `file` is the path of its message file.
        conn: the connection's number.
        channel, symbol: null if the feed has none for it.
        opcode: `text`, `binary`, `ping`, ...
        payload_bytes: of its message; null if it was not looked up (only those of `Figures.slowest` are).
        read_bytes: taken from the socket by the read that completed it.
        frame_in_read, frames_in_read: its place among the frames of that read, from 0; their number.
        steps: the five steps between the six stages, in the order of `wsrec.stages.STEPS` (ns); the first is null
            without stage 1 and may be negative (the segment arrived during the read).
        total: the sum of those that are there (ns).

    """

    time: int
    session: str
    file: str
    seq: int
    conn: int
    channel: str | None
    symbol: str | None
    opcode: str | None
    payload_bytes: int | None
    read_bytes: int
    frame_in_read: int
    frames_in_read: int
    steps: list[int | None]
    total: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The mean of one step over the frames of a `Composition`.

    Attributes:
        key, name: of `wsrec.stages.STEPS`.
        mean: ns; that of NIC->EVENT may be negative.

    """

    key: str
    name: str
    mean: float


class Composition(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of the frames near a percentile of the total went: the shares add up to `mean`, exactly.

    It says: "these `count` frames, with a total from `low` to `high`, took `mean` on average, of which ...". It does
    not say that each step is at its own percentile: those do not add up.

    Attributes:
        key: which total; name: ``NIC->HANDOFF`` or ``EVENT->HANDOFF``.
        frames: `all` frames, or those `first` in their read.
        percentile: 50, 90, 99 or 99.9.
        low, high: the smallest and largest total that a frame of the band may have (ns): the buckets (of 1/128) of
            the percentiles 49 to 51, 89.5 to 90.5, 98.5 to 99.5 or 99.85 to 99.95.
        count: frames in the band.
        mean: of their totals (ns).
        shares: in order of the stages: five steps, four without stage 1.

    """

    key: TotalKey
    name: str
    frames: Literal["all", "first"]
    percentile: float
    low: int
    high: int
    count: int
    mean: float
    shares: list[Share]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution by its percentiles.

    Attributes:
        name: what it is of: a step's name, a channel (null: messages without one), or a connection ``conn 3``.
        others: how many channels or connections are merged in it; 0: it is of the one that it names, and for 1 and more
            `name` is ``3 others``.
        count: frames.
        values: ns at each of `PERCENTILES`, within `CURVE_ERROR`; null where so few frames say nothing (fewer than one
            in them lies beyond it); of steps and totals negative values count as 0.
        min, max: exact, also where negative.

    """

    name: str | None
    others: int = 0
    count: int
    values: list[int | None]
    min: int
    max: int


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Percentile curves that are drawn in one figure.

    Attributes:
        by: `step`: the steps and totals, of all frames; `channel`, `connection`: the total of the 12 with most
            frames, and of the others together; `delay`: exchange-to-receive delay by channel, likewise.
        key: which total, for `channel` and `connection`; else null.
        curves: steps in order of the stages, else by descending count, the others last.

    """

    by: Literal["step", "channel", "connection", "delay"]
    key: TotalKey | None
    curves: list[Curve]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One event, for the time line.

    Attributes:
        time: when.
        kind: of `wsrec.ring.events.EventKind`.
        session, conn, channel, symbol: what it concerns, as far as it names it.
        begin, end: of a `lost_interval`, a `stall` and a stream that was `stale`: its ends; else null.
        text: its details in words, printable; no HTML.

    """

    time: int
    kind: str
    session: str
    conn: int | None
    channel: str | None
    symbol: str | None
    begin: int | None
    end: int | None
    text: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one kind on the time line.

    Attributes:
        kind: of `wsrec.ring.events.EventKind`.
        is_incident: whether it is about completeness or the clock (`wsrec.report.model.INCIDENT_KINDS`); those come
            first, gravest first, then the others by name.
        count: of all of them.
        begins, counts: how many in each step of time, with the width of `OverTime.width`; steps without any are left
            out. All are in it.
        moments: the first 200 of an incident's kind, of others the first 20, by time.

    """

    kind: str
    is_incident: bool
    count: int
    begins: list[int]
    counts: list[int]
    moments: list[Moment]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of one channel and symbol: what was received, not what was sent.

    That a step has no message, or that no gap is known, proves nothing: `wsrec verify` proves.

    Attributes:
        channel, symbol: null: messages without one.
        messages: received.
        first, last: the smallest and largest `recv_time`.
        gaps: events `gap` that name it.
        begins, counts: messages in each step of time, of `Coverage.width`; steps without any are left out.

    """

    channel: str | None
    symbol: str | None
    messages: int
    first: int
    last: int
    gaps: int
    begins: list[int]
    counts: list[int]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """When each stream had messages.

    Attributes:
        width: of a step (ns), as `OverTime.width`, for at most 150 steps.
        streams: the 200 with most gaps, then most messages.
        others: number of streams that are not among them; other_messages, other_gaps: theirs.
        known: false if there are more than 4,096 streams: only the first of them by name were told apart, and `others`
            counts what is merged as one.

    """

    width: int
    streams: list[Stream]
    others: int
    other_messages: int
    other_gaps: int
    known: bool


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A circumstance of the recording, for comparing two captures.

    Attributes:
        name: in words: `kernel`, `TLS mode`, `receiver processors`.
        values: each different value, printable, by the number of files with it; at most 5, then ``and 3 more``.

    """

    name: str
    values: list[str]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the recording of one feed on one host.

    Attributes:
        feed, host: as of the `wsrec.report.model.Recording` that they belong to.
        over_time: null without received messages.
        slowest: of each total the 50 slowest frames, the slowest first.
        compositions: by total, frames and percentile.
        curves: by step, and by total for channels and connections; then delays.
        lines: events, by kind.
        coverage: of the streams; null without received messages.
        facts: in a fixed order, without those that no file tells.

    """

    feed: str
    host: str
    over_time: OverTime | None
    slowest: dict[TotalKey, list[SlowFrame]]
    compositions: list[Composition]
    curves: list[Curves]
    lines: list[Line]
    coverage: Coverage | None
    facts: list[Fact]


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to draw of a capture.

    Attributes:
        sources: the folders, files and patterns that were read, as the user named them.
        report: the verdict and all counts.
        figures: as many and in the same order as `report.recordings`.

    """

    sources: list[str]
    report: Report
    figures: list[Figures]
