"""The verification model: the structs that `--json` encodes. Times and durations are integers in ns."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE


class VerifyStatus(IntEnum):
    """Exit status of `wsrec verify`. The text below each is that of docs/how-to/verify.md."""

    HOLDS = 0
    """no problem found: nothing damaged, nothing contradictory, no interval incomplete"""
    DAMAGED = 1
    """damaged or contradictory: a file, a figure or a row differs from what wsrec wrote"""
    USAGE = 2
    """wrong usage: nothing was checked"""
    NOTHING = EXIT_NOTHING
    """no capture there, or an empty one"""
    INCOMPLETE = 4
    """sound, but with incomplete intervals, or a session that has not ended or is not recovered"""
    UNREADABLE = EXIT_UNREADABLE
    """something cannot be read (no permission, another version) and is unknown; the rest is not damaged"""
    UNPRINTED = 74
    """standard output cannot be written: nothing is said of the capture (EX_IOERR)"""


class State(StrEnum):
    """How complete an interval of a stream is, and by what evidence. docs/how-to/verify.md has the comments."""

    PROVED = "proved"
    """the exchange's own numbers were compared, and follow one another from the interval's first message to its last"""
    UNBROKEN = "unbroken"
    """the TCP connection was open and everything received is in the files; no number proves that nothing is missing"""
    SILENT = "silent"
    """the connection was open and the subscription confirmed (if the exchange does that), but no message came"""
    INCOMPLETE = "incomplete"
    """something is missing, or may be; the reason says why"""


class Kind(StrEnum):
    """Severity of a finding. docs/how-to/verify.md has the comments."""

    DAMAGED = "damaged"
    """a file is missing or differs from what was written: empty, truncated, replaced, changed"""
    CONTRADICTION = "contradiction"
    """two places that must agree differ"""
    UNREADABLE = "unreadable"
    """it cannot be read (no permission, an I/O error, another version of the format), so nothing is known about it"""
    INCOMPLETE = "incomplete"
    """something was not recorded, or is not in the files yet"""
    UNCHECKED = "unchecked"
    """a gap rule could not be applied to all messages: those not compared are not proved"""
    NOTE = "note"
    """worth knowing; not a problem"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Attributes:
        kind: its severity.
        where: the file (with the line, for the manifest), folder or session.
        what: a description.

    """

    kind: Kind
    where: str
    what: str


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a stream's time.

    Attributes:
        start, end: ns since the epoch (UTC, by the hand-off); an interval is split where the clock was set.
        state: how complete it is.
        reason: why it is incomplete, or what bounds it; may be empty.
        monotonic_start, monotonic_end: the same moments on the stage clock, which is never set (`handoff_monotonic` of
            rows); UTC that was set back occurs twice.

    """

    start: int
    end: int
    state: State
    reason: str = ""
    monotonic_start: int = 0
    monotonic_end: int = 0


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One channel and symbol of one connection.

    Attributes:
        conn: the connection.
        channel, symbol: as named by the messages; null if the feed's fields name none.
        topic: the requested topic; null if no subscription is known to be this stream's.
        rule: the feed's sequence rule (`none` without one).
        state: the worst state of its intervals; `proved` if the numbers prove everything from first to last message.
        messages: number of received messages.
        not_inflated: messages of its connection that could not be inflated; any of them may belong to it.
        gaps: violations of the rule.
        compared: pairs of messages that the rule compared.
        skipped: pairs that could not be compared, by reason.
        resets: how often the numbers restarted, as the feed declares; nothing is proved across a restart.
        proved, unbroken, silent, incomplete: ns in each state.
        intervals: in order of time; only the first 1,000 are listed, but all are counted.

    """

    conn: int
    channel: str | None
    symbol: str | None
    topic: str | None
    rule: str
    state: State
    messages: int
    not_inflated: int
    gaps: int
    compared: int
    skipped: dict[str, int]
    resets: int
    proved: int
    unbroken: int
    silent: int
    incomplete: int
    intervals: list[Interval]


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the ledger, from each place that counts it.

    Attributes:
        what: what is counted.
        sources: the figure by source; a source without it is left out.

    """

    what: str
    sources: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether all sources agree."""
        return len(set(self.sources.values())) < 2


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of the files' ledgers: how many frames came out of the rings, and what became of them.

    Attributes:
        balanced: whether all totals agree: frames = rows + joined + discarded + unfinished, the files' slots follow one
            another, and receiver, rings and rows have the same counts.
        slots: slots taken, of all feeds of the session; missing: slots that are in no journal.
        frames, frame_bytes: frames received by this feed's connections, and their payload bytes as received.
        rows, row_bytes: rows made from them, control frames included, and their payload bytes as stored.
        joined: fragments that were joined into the row of a later frame.
        discarded, unfinished: fragments of messages cut off by a lost connection, or by the session's end.
        inflated: messages that were received compressed.
        sent, events: frames sent by this feed's connections; events of the receiver.
        overhead_bytes: bytes received besides payloads: headers and handshakes, decrypted.

    """

    balanced: bool
    slots: int
    missing: int
    frames: int
    frame_bytes: int
    rows: int
    row_bytes: int
    joined: int
    discarded: int
    unfinished: int
    inflated: int
    sent: int
    events: int
    overhead_bytes: int


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Time in which nothing could be received, or whose rows are missing.

    Attributes:
        conn: the connection; null for the whole session.
        start, end: ns since the epoch.
        reason: the reason.
        start_evidence, end_evidence: the evidence for each end; empty if the event has none.
        bound: `exact`, or `upper` if it may have been shorter; empty if the event has none.
        monotonic_start, monotonic_end: as in `Interval`.

    """

    conn: int | None
    start: int
    end: int
    reason: str
    start_evidence: str = ""
    end_evidence: str = ""
    bound: str = ""
    monotonic_start: int = 0
    monotonic_end: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session of one feed.

    Attributes:
        session, feed: their names.
        state: `ended`; `interrupted` (killed; its journals have been recovered, or its end is not in the files);
            `unrecovered` (journals wait for `wsrec recover`); `recording`; `part` (not all of its files were read, or
            readable).
        files, bytes: number of message and events files, and their size.
        unread: number of those that could not be read, for any reason: their content is in no other figure.
        remembered: number of those that an earlier verification proved, and that were not read this time.
        remembered_since: when the reading of the first of these began (ns since the epoch); null if all were read.
        start, end: first and last moment in the files (ns since the epoch); null if they are empty.
        duration: from start to end (ns), unaffected by clock changes.
        rows: number of rows read.
        missing: number of `seq` without a row.
        duplicates: number of rows whose `seq` another row has already.
        ledger: the counts, by source.
        balance: the totals of the ledgers; null if no file has one, or one cannot be read.
        losses: lost intervals, by time; only the first 1,000 are listed.
        stalls, stalled: how often a full ring paused a connection, and for how long (ns). Nothing is lost by a stall.
        unattributed: received messages that name no channel: answers, errors, heartbeats.
        streams: by connection, channel and symbol.

    """

    session: str
    feed: str
    state: str
    files: int
    unread: int
    bytes: int
    start: int | None
    end: int | None
    duration: int | None
    rows: int
    missing: int
    duplicates: int
    ledger: list[Count]
    balance: Balance | None
    losses: list[Loss]
    stalls: int
    stalled: int
    unattributed: int
    streams: list[Stream]
    remembered: int = 0
    remembered_since: int | None = None


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """One output folder.

    Attributes:
        path: the folder.
        found: whether there is a capture at all.
        whole: whether the whole folder was verified, or only the named parts.
        sessions: by their ids.
        findings: gravest first.

    """

    path: str
    found: bool = True
    whole: bool
    sessions: list[Session]
    findings: list[Finding]

    @property
    def status(self) -> VerifyStatus:
        """The exit status of this capture alone."""
        kinds = {finding.kind for finding in self.findings}
        if kinds & {Kind.DAMAGED, Kind.CONTRADICTION}:
            return VerifyStatus.DAMAGED
        if Kind.UNREADABLE in kinds:
            return VerifyStatus.UNREADABLE
        if not any(session.rows for session in self.sessions) and Kind.INCOMPLETE not in kinds:
            return VerifyStatus.NOTHING
        partial = any(s.losses or any(t.state is State.INCOMPLETE for t in s.streams) for s in self.sessions)
        return VerifyStatus.INCOMPLETE if partial or Kind.INCOMPLETE in kinds else VerifyStatus.HOLDS


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """All captures of one call.

    Attributes:
        status: exit status.
        captures: in order of their paths.

    """

    status: int
    captures: list[Capture]


def worst(captures: list[Capture]) -> VerifyStatus:
    """The exit status of several: the gravest; `NOTHING` if all are empty, or all hold and one is no capture."""
    found = {capture.status for capture in captures}
    order = (VerifyStatus.DAMAGED, VerifyStatus.UNREADABLE, VerifyStatus.INCOMPLETE, VerifyStatus.HOLDS)
    gravest = next((status for status in order if status in found), VerifyStatus.NOTHING)
    complete = all(capture.found for capture in captures)
    return VerifyStatus.NOTHING if gravest is VerifyStatus.HOLDS and not complete else gravest
