"""The verification model: the structs that `--json` encodes. Times and durations are integers in ns."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from wsrec.format.capture import EXIT_UNREADABLE


class VerifyStatus(IntEnum):
    """Exit status of `wsrec verify`. The comment below each is its text in docs/verify.md."""

    HOLDS = 0
    """everything holds: nothing damaged, nothing contradictory, no interval incomplete"""
    DAMAGED = 1
    """damaged or contradictory: a file, a figure or a row is not what wsrec wrote"""
    USAGE = 2
    """wrong usage: nothing was looked at"""
    NOTHING = 3
    """no capture there, or nothing in it yet"""
    INCOMPLETE = 4
    """sound, but with intervals that are incomplete, or a session that is not ended or not recovered"""
    UNREADABLE = EXIT_UNREADABLE
    """something cannot be read (no permission, another version): nothing is known of it; the rest is not damaged"""


class State(StrEnum):
    """How complete an interval of a stream is, and by what proof. The comment below each is docs/verify.md's."""

    PROVED = "proved"
    """the exchange's own numbers were compared, and follow one another from the interval's first message to its last"""
    UNBROKEN = "unbroken"
    """the TCP connection was open and all that it brought is in the files; no number proves that nothing is missing"""
    SILENT = "silent"
    """the connection was open, the subscription confirmed (where the exchange does that), and not one message came"""
    INCOMPLETE = "incomplete"
    """something is missing, or nothing shows that it is not; the reason says what"""


class Kind(StrEnum):
    """How grave a finding is. The comment below each is docs/verify.md's."""

    DAMAGED = "damaged"
    """a file that is gone, or is not the one that was written: empty, cut off, another program's, changed"""
    CONTRADICTION = "contradiction"
    """two places that must say the same do not"""
    UNREADABLE = "unreadable"
    """it cannot be read (no permission, a disk that fails, another version of the format): nothing is known of it"""
    INCOMPLETE = "incomplete"
    """something was not recorded, or is not in the files yet"""
    UNCHECKED = "unchecked"
    """a gap rule could be applied to less than it should: what was not compared is not proved"""
    NOTE = "note"
    """worth knowing; nothing is wrong"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found.

    Attributes:
        kind: how grave it is.
        where: the file (with the line, for the manifest), folder or session.
        what: a description.

    """

    kind: Kind
    where: str
    what: str


class Interval(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """A part of a stream's time.

    Attributes:
        start, end: ns since the epoch (UTC, by the hand-off); where the clock was set an interval ends and another
            begins.
        state: how complete it is.
        reason: why it is incomplete, or what bounds it; empty if neither applies.
        monotonic_from, monotonic_to: the same moments on the clock that nobody sets (`handoff_monotonic` of rows): UTC
            that was set back comes twice.

    """

    start: int
    end: int
    state: State
    reason: str = ""
    monotonic_from: int = 0
    monotonic_to: int = 0


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One channel and symbol of one connection.

    Attributes:
        conn: the connection.
        channel, symbol: as the messages name them; null where the feed's fields name none.
        topic: what was asked for, null where no subscription is known to be this stream's.
        rule: the feed's rule for its numbers (`none` where it has none).
        state: the worst of its intervals; `proved` where the numbers prove all between first and last message.
        messages: received.
        not_inflated: messages of its connection that could not be read: any of them may be its own.
        gaps: breaks of the rule.
        compared: successions of two messages that the rule compared.
        skipped: those that it should have compared and could not, by the reason.
        resets: how often the numbers began anew, as the feed says that they may: nothing is proved across it.
        proved, unbroken, silent, incomplete: ns in each state.
        intervals: in order of time; after the first 1,000 none are listed, but all are counted.

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
    """One figure of the ledger, as each place that counts it has it.

    Attributes:
        what: what is counted.
        sources: the figure by the place that says it; a place that says nothing is left out.

    """

    what: str
    sources: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether all places say the same."""
        return len(set(self.sources.values())) < 2


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of the files' ledgers: what came out of the rings and what became of it.

    Attributes:
        balanced: whether every sum agrees: frames = rows + joined + discarded + unfinished, the files' slots follow one
            another, and receiver, rings and rows say the same.
        slots: taken, of all feeds of the session; missing: of them, in no journal.
        frames, frame_bytes: received by this feed's connections, and their payload as it came.
        rows, row_bytes: that they became, control frames included, and their payload as it is stored.
        joined: frames that went into the row of a later one.
        discarded, unfinished: frames of messages that were cut off by a lost connection, and by the end.
        inflated: messages that were compressed.
        sent, events: frames sent by this feed's connections; events of the receiver.
        overhead_bytes: received beside the payloads: headers and handshakes, decrypted.

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


class Loss(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """Time in which nothing could be received, or of which rows are missing.

    Attributes:
        conn: the connection; null where it concerns all of the session.
        start, end: ns since the epoch.
        reason: why.
        from_evidence, to_evidence: where each end is known from; empty where the event does not say.
        bound: `exact`, or `upper` where it may have been shorter; empty where the event does not say.
        monotonic_from, monotonic_to: as of an `Interval`.

    """

    conn: int | None
    start: int
    end: int
    reason: str
    from_evidence: str = ""
    to_evidence: str = ""
    bound: str = ""
    monotonic_from: int = 0
    monotonic_to: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session of one feed.

    Attributes:
        session, feed: its names.
        state: `ended`; `interrupted` (killed; what was journalled has been recovered, or its end is not in the files);
            `unrecovered` (journals wait for `wsrec recover`); `recording`; `part` (not all its files were looked at, or
            could be).
        files, bytes: message and events files, and their size.
        unread: how many of them could not be read, whatever the cause: no figure here counts what is in them.
        start, end: first and last moment that the files tell of (ns since the epoch); null without any.
        duration: from the one to the other (ns), unaffected by clock changes.
        rows: read.
        missing: how many `seq` are in no row.
        duplicates: rows whose `seq` another row has already.
        ledger: the counts, by the places that have them.
        balance: the sums of the ledgers; null if no file has one, or one cannot be read.
        losses: what was lost, by time; after the first 1,000 none are listed.
        stalls, stalled: how often a full ring paused a connection, and for how long (ns). Nothing is lost by it.
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


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """One output folder.

    Attributes:
        path: the folder.
        whole: whether all of it was looked at, or only what was named.
        sessions: by their ids.
        findings: gravest first.

    """

    path: str
    whole: bool
    sessions: list[Session]
    findings: list[Finding]

    @property
    def status(self) -> VerifyStatus:
        """What it comes to."""
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
    """The exit status of several captures: the gravest, and nothing only where there is nothing anywhere."""
    found = {capture.status for capture in captures}
    order = (VerifyStatus.DAMAGED, VerifyStatus.UNREADABLE, VerifyStatus.INCOMPLETE, VerifyStatus.HOLDS)
    return next((status for status in order if status in found), VerifyStatus.NOTHING)
