"""The report model: the structs that `--json` encodes. Times and durations are integers in ns."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from wsrec.counts import Counts
from wsrec.ring.events import EventKind
from wsrec.units import printable_json

# kinds of events about completeness or the clock, gravest first
INCIDENT_KINDS = (
    EventKind.LOST_INTERVAL,
    EventKind.GAP,
    EventKind.NOT_INFLATED,
    EventKind.DISCONNECT,
    EventKind.STALL,
    EventKind.REFUSED,
    EventKind.UNANSWERED,
    EventKind.LATE,
    EventKind.EXCHANGE_TIME_OFF,
    EventKind.CLOCK_STEP,
    EventKind.PRIVILEGE,
    EventKind.RESTART,
)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One step between two stages, over the frames of its table.

    Attributes:
        key: `wsrec.stages.Step.key`, or `event_to_handoff` for the total of frames without stage 1.
        name: its readable name: ``EVENT->RECV_START``.
        count: number of durations.
        negative: number of negative ones: see `Stage1.after_event` and `Stage1.after_read`.
        sum, min, mean, max: exact (ns); the mean is rounded.
        p50, p90, p99, p999: within 1/128 (ns); a negative duration counts as 0 here and in `buckets`.
        share: share of the table's total time, 0 to 1; null if that is not positive.
        buckets: lowest duration (ns) and count of each histogram bucket in use, ascending.

    """

    key: str
    name: str
    count: int
    negative: int
    sum: int
    min: int | None
    mean: int | None
    p50: int | None
    p90: int | None
    p99: int | None
    p999: int | None
    max: int | None
    share: float | None
    buckets: list[tuple[int, int]]


class StageTable(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of received frames.

    Attributes:
        frames: `first` in their read (`frame_in_read` 0), `behind` others of the same read, or `all` of them.
        steps: the steps with durations, in order of the stages, then the totals.

    """

    frames: Literal["all", "first", "behind"]
    steps: list[Latency]


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """`recv_time` minus `exchange_time` of received messages (ns): network, exchange and both clocks together.

    Attributes:
        channel: the `channel` column; null for messages without one, and for all channels together.
        count: number of messages with an exchange time.
        negative: number of those that arrived before their exchange time.
        resolution: the coarsest of 1 s, 1 ms, 1 µs and 1 ns of which all exchange times are multiples (ns).
        min, max: exact (ns).
        p50, p99: within 1/128 (ns).

    """

    channel: str | None
    count: int
    negative: int
    resolution: int
    min: int
    p50: int
    p99: int
    max: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session, and the proof by `seq` that its files are complete.

    Attributes:
        session: its id.
        files, rows: number of files and rows read.
        first_recv_time, last_recv_time: ns since the epoch; null without rows.
        first_seq, last_seq: lowest and highest `seq`; null without rows.
        missing: number of `seq` between them without a row; null if the report is of a part.
        missing_ranges: the first 100 ranges of those, ends included.
        duplicates: number of rows whose `seq` another row has already; null as `missing`.
        received: number of the rows that were received.
        ended: whether the events have its end, or that it was interrupted; null as `missing`.
        announced: number of rows that it received by its end; null as `missing`, or if its end does not say.

    """

    session: str
    files: int
    rows: int
    first_recv_time: int | None
    last_recv_time: int | None
    first_seq: int | None
    last_seq: int | None
    missing: int | None
    missing_ranges: list[tuple[int, int]]
    duplicates: int | None
    received: int
    ended: bool | None
    announced: int | None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Received messages per second.

    Attributes:
        mean: mean over the recorded time.
        peak: largest number in one second of UTC.
        peak_time: the beginning of that second (ns since the epoch).

    """

    mean: float | None
    peak: int
    peak_time: int


class Unchecked(msgspec.Struct, frozen=True, kw_only=True):
    """A channel whose gap rule could not be applied to all messages, so that losses may go unnoticed.

    Attributes:
        channel: the `channel` column; null if the numbers are per connection.
        compared: number of messages to which the rule was applied, in files with skipped ones.
        skipped: number of the others there, by reason.

    """

    channel: str | None
    compared: int
    skipped: dict[str, int]


class Stage1(msgspec.Struct, frozen=True, kw_only=True):
    """Sources of stage 1 in received rows.

    Attributes:
        nic, kernel, segment, segment_nic, none: rows by source.
        reasons: rows by the reason for null, from the files' metadata.
        after_event: rows stamped after EVENT, but not after RECV_END: their segment arrived during the read. This is
            normal, and `NIC->EVENT` is negative.
        after_read: rows stamped after RECV_END, which is impossible: the clocks of stage 1 and the others disagree.
        latest: the longest time that a stamp is after RECV_END (ns); null without such rows.

    """

    nic: int
    kernel: int
    segment: int
    segment_nic: int
    none: int
    reasons: dict[str, int]
    after_event: int
    after_read: int
    latest: int | None


class SegmentTable(msgspec.Struct, frozen=True, kw_only=True):
    """What captured segments say of received rows (`wsrec record --segments`).

    Attributes:
        rows: number of rows with stage 1 of a segment.
        read_stamp: ns from stage 1 to the stamp that came with the read: how far off stage 1 would be without
            `--segments`; null where no read had a stamp (`ktls`).
        first_segment: ns from the segment with the message's first byte to stage 1.
        order: rows by `segment_order`.

    """

    rows: int
    read_stamp: Latency | None
    first_segment: Latency | None
    order: dict[str, int]


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of the clock of stages 2 to 6, over all files' metadata.

    Attributes:
        clocks: the clocks in use.
        anchors: number of moments read on both clocks.
        width: the widest bracket of an anchor, which bounds the error of UTC (ns); null if unknown.
        steps: how often the realtime clock was set.
        largest_step: the largest step (ns, signed); null without steps.

    """

    clocks: list[str]
    anchors: int
    width: int | None
    steps: int
    largest_step: int | None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One event about completeness or the clock, as in the events file."""

    time: int
    kind: str
    session: str
    conn: int | None
    channel: str | None
    symbol: str | None
    detail: dict[str, Any]


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How connections were decrypted.

    Attributes:
        mode: `direct`, `stamped`, `ktls` or `openssl`.
        fallback: why that is not the mode that was asked for; empty if it is.
        version, cipher: of TLS.
        connections: number of connections, each session's own.

    """

    mode: str
    fallback: str = ""
    version: str
    cipher: str
    connections: int


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel with received messages.

    Attributes:
        channel: the `channel` column.
        received: number of its messages.
        rule: the feed's sequence rule for it, from the files' metadata; `none` without one.

    """

    channel: str
    received: int
    rule: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording's completeness.

    Attributes:
        state: `incomplete`: a loss is known; `complete`: no row is missing, and each channel has numbers of the
            exchange that were compared and show no gap; `unproved`: no loss is known, but something would not show, or
            was not looked at.
        sentence: in words, without the state.
        missing: what is known to be missing.
        unknown: what is not known.

    """

    state: Literal["complete", "unproved", "incomplete"]
    sentence: str
    missing: list[str]
    unknown: list[str]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """The recording of one feed on one host.

    Attributes:
        feed, host: their names.
        verdict: what is known of its completeness.
        sessions: by first receive time.
        files: message files read.
        events_files: events files read; events_unread: unreadable ones, and folders that may contain some.
        events_absent: message files without an events file beside them.
        rows: by `direction` and `opcode`: ``{"recv": {"text": 10}}``.
        first_recv_time, last_recv_time: ns since the epoch; null without rows.
        recorded: total time (ns) of the sessions between first and last row, overlaps counted once.
        rate: of received messages; null without any.
        channels: those of received messages, by descending count.
        payload_bytes: of all rows.
        file_bytes: of the message files on disk.
        gaps: sequence gaps from the files' metadata, of a part from the events; null if no file's feed declares a rule.
        counts: the writer's counts, from the files' metadata (`wsrec.counts`); null if the report is of a part.
        unchecked: the channels whose rule could not be applied to all messages, from the files' events.
        events: events by kind, from the events files; topics: by kind, the number of refused, unanswered or late
            subscriptions, and of messages that could not be inflated.
        stalled, lost: ns from the `stall` and `lost_interval` events.
        incidents: the first 20 events of each kind in `INCIDENT_KINDS`, by time.
        stage1, clock: sources of the stamps.
        segments: what captured segments say of them; null without any.
        tls: the modes and ciphers of its connections, by descending number of them; without plain ones.
        stages: the tables `all`, `first` and `behind`, without empty ones.
        exchange_delay: over all channels; null without exchange times.
        exchange_delay_by_channel: by descending count. After 256 channels the rest is merged as `(other channels)`.
        warnings: texts for the user.

    """

    feed: str
    host: str
    verdict: Verdict
    sessions: list[Session]
    files: int
    events_files: int
    events_unread: int
    events_absent: int
    rows: dict[str, dict[str, int]]
    first_recv_time: int | None
    last_recv_time: int | None
    recorded: int
    rate: Rate | None
    channels: list[Channel]
    payload_bytes: int
    file_bytes: int
    gaps: int | None
    counts: Counts | None
    unchecked: list[Unchecked]
    events: dict[str, int]
    topics: dict[str, int]
    stalled: int
    lost: int
    incidents: list[Incident]
    stage1: Stage1
    segments: SegmentTable | None
    clock: Clock
    tls: list[Tls]
    stages: list[StageTable]
    exchange_delay: Delay | None
    exchange_delay_by_channel: list[Delay]
    warnings: list[str]

    def row_count(self, direction: str) -> int:
        """Rows of one direction (`recv`, `sent` or `rest`)."""
        return sum(self.rows.get(direction, {}).values())


class UnfinishedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session whose last rows are in no finished file yet, and were read from its journals.

    Attributes:
        session: its id.
        out: its output folder.
        recording: true while a recorder runs; false if it was interrupted, and `wsrec recover` finishes it.

    """

    session: str
    out: str
    recording: bool


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is restricted to: as `wsrec.format.selection.Selection`, with symbols and channels as named.

    What only whole files tell is then null or empty: `Session.missing` and `duplicates`, `Recording.counts`, and of
    files that are read in part `Stage1.reasons`. Files and their bytes are those with such rows. Events of all symbols
    or channels, as of a connection, count for each. `clock` and `unchecked` are those of the whole files.
    """

    since: int | None
    until: int | None
    symbols: list[str]
    channels: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All recordings in the files of one call.

    Attributes:
        part: what it is restricted to; null: nothing.
        recordings: by feed and host.
        unfinished: sessions being recorded, and interrupted ones.
        errors: damaged or invalid files, each with a hint.
        absent: sources that do not exist, hold no capture, or have no finished file yet.
        unreadable: files and folders that the system refuses to read, and which are thus unknown.
        nothing_of: which of the times, symbols and channels that it is restricted to have no rows, in words.

    """

    part: Part | None
    recordings: list[Recording]
    unfinished: list[UnfinishedSession]
    errors: list[str]
    absent: list[str]
    unreadable: list[str]
    nothing_of: list[str]

    def to_json(self) -> str:
        """The report as one JSON object that is safe on a terminal: control characters are escaped."""
        return printable_json(self)
