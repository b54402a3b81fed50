"""Checks of rows by themselves: stages, valid values, totals. They need no other rows, so any thread may make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt

from wsrec.arrays import distinct, known, lengths, values
from wsrec.counts import Counts
from wsrec.format.columns import Bools, times, words
from wsrec.format.counting import count_rows
from wsrec.format.layout import hour
from wsrec.format.schema import SEGMENT_COLUMNS, SEGMENT_ORDER
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.format.stage_histograms import Durations, StageHistograms
from wsrec.histogram import Int64s
from wsrec.stages import EVENT, HANDOFF, PARSED, RECV_END, SEGMENT_WORDS, STAMPED_WORDS, STEPS, USER, SegmentOrder
from wsrec.verify.rows import Rows, Words, among

_DIRECTIONS = {"recv", "sent", "rest"}
_OPCODES = {"text", "binary", "ping", "pong", "close"}
_ORDERS = {order.word for order in SegmentOrder}
_SOURCES = {*STAMPED_WORDS, USER}


class RowChecks:
    """Totals of rows, and their problems.

    Attributes:
        opcodes: rows by direction and opcode.
        bytes: payload bytes by direction.
        counts: the counters that follow from rows.
        hours: the hours that they belong to (`wsrec.format.layout.hour`), those of each batch's first and last row.
        problems: number of invalid rows by problem.
        sources: received rows by the source of stage 1.
        steps: the durations of the steps between the stages.
        segments: what captured segments say of the rows.

    """

    def __init__(self) -> None:
        self.opcodes: Counter[tuple[str | None, str | None]] = Counter()
        self.bytes: Counter[str | None] = Counter()
        self.hours: set[int] = set()
        self.problems: Counter[str] = Counter()
        self.counts = Counts()
        self.sources: Counter[str] = Counter()
        self.steps = StageHistograms()
        self.segments = SegmentHistograms()

    def merge(self, other: RowChecks) -> None:
        """Add the checks of other rows."""
        self.opcodes += other.opcodes
        self.bytes.update(other.bytes)
        self.hours |= other.hours
        self.problems += other.problems
        self.counts += other.counts
        self.sources += other.sources
        self.steps.merge(other.steps)
        self.segments.merge(other.segments)

    def count(self, wrong: npt.NDArray[np.bool_], what: str) -> None:
        """Count invalid rows."""
        if wrong.any():
            self.problems[what] += int(np.count_nonzero(wrong))


def checked(rows: Rows, conns: AbstractSet[int]) -> RowChecks:
    """The checks of a batch of rows.

    Args:
        rows: the rows, at least one.
        conns: the connections that their file may have rows of.

    """
    checks = RowChecks()
    bytes_of = lengths(rows.payload)
    checks.counts = count_rows(rows.received, rows.carried, rows.sent, bytes_of)
    source = words(rows.table, "recv_source")
    _count_opcodes(checks, rows, bytes_of)
    _check_words(checks, rows, source, conns)
    _check_payload(checks, rows)
    _check_stages(checks, rows, source)
    _check_segments(checks, rows, source)
    return checks


def _count_opcodes(checks: RowChecks, rows: Rows, bytes_of: Int64s) -> None:
    (ways, way_names), (codes, code_names) = rows.direction, rows.opcode
    pairs = np.bincount(ways * len(code_names) + codes)
    for pair in np.flatnonzero(pairs).tolist():
        way, code = divmod(pair, len(code_names))
        checks.opcodes[way_names[way], code_names[code]] += int(pairs[pair])
    for way in distinct(ways):
        checks.bytes[way_names[way]] += int(bytes_of.sum(where=ways == way))


def _check_words(checks: RowChecks, rows: Rows, source: Words, conns: AbstractSet[int]) -> None:
    columns = ("direction", rows.direction, _DIRECTIONS), ("opcode", rows.opcode, _OPCODES)
    for column, (codes, names), expected in (*columns, ("recv_source", source, _SOURCES)):
        for code in distinct(codes):
            if names[code] not in expected:
                checks.problems[f"{column} has an unknown value"] += int(np.count_nonzero(codes == code))
    strange = [conn for conn in distinct(rows.conns) if conn not in conns]
    if strange:
        checks.problems["their connection is not in wsrec.connections"] += int(np.isin(rows.conns, strange).sum())


def _check_payload(checks: RowChecks, rows: Rows) -> None:
    text, data = (known(rows.table.column(name)) for name in ("text", "data"))
    checks.count(text == data, "not exactly one of text and data has the payload")
    checks.count(text & ~among(rows.opcode, {"text"}), "a payload is in text, but its opcode is not text")


def _check_stages(checks: RowChecks, rows: Rows, source: Words) -> None:
    """Check the stages by the stored steps between them: a stage's time is known where all steps behind it are."""
    received, handoff = rows.received, times(rows.table, HANDOFF.column)[0]
    checks.hours |= {int(hour(np.min(handoff))), int(hour(np.max(handoff)))}
    behind = np.zeros(len(handoff), np.int64)
    has = np.ones(len(handoff), np.bool_)
    decreasing = np.zeros(len(handoff), np.bool_)
    behind_of: dict[str, Int64s] = {}
    known_at: dict[str, Bools] = {}
    durations: list[Durations] = []
    for step in reversed(STEPS):
        column = rows.table.column(step.key)
        ns: Int64s = values(column)
        behind = behind + ns
        if column.null_count:
            has = has & known(column)
        if step.start.number >= EVENT.number:
            decreasing |= has & (ns < 0)
        known_at[step.start.column], behind_of[step.start.column] = has, behind
        durations.append((ns, None if has.all() else has))
    frame_in_read = values(rows.table.column("frame_in_read"))
    checks.steps.add(frame_in_read, durations[::-1], None if received.all() else received)
    checks.count(decreasing, "stages 2 to 6 decrease within the row")
    has_event = known_at[EVENT.column]
    fits = (known_at[PARSED.column] == has_event) & (has_event == received)
    checks.count(~fits, "stages 2 to 5 do not fit the direction")
    other = np.where(has_event, handoff - behind_of[RECV_END.column], handoff)
    _check_arrival(checks, rows, handoff - behind, has, other)
    checks.count(among(source, {USER}) == has, "recv_source does not fit stage 1")
    counts = np.bincount(source[0][received], minlength=len(source[1]))
    checks.sources.update({name: int(n) for name, n in zip(source[1], counts, strict=True) if n and name})


def _check_segments(checks: RowChecks, rows: Rows, source: Words) -> None:
    """Check what captured segments say against the source of stage 1."""
    by_segment = among(source, {*SEGMENT_WORDS})
    first, read_stamp, order = (rows.table.column(name) for name in SEGMENT_COLUMNS)
    if not by_segment.any() and first.null_count == read_stamp.null_count == order.null_count == len(by_segment):
        return
    wrong = (known(first) | known(read_stamp)) & ~by_segment
    checks.count(wrong, "a time of captured segments, but stage 1 is not of a segment")
    checks.count(
        among(words(rows.table, SEGMENT_ORDER), _ORDERS) != by_segment, f"{SEGMENT_ORDER} does not fit stage 1"
    )
    late = known(read_stamp) & (values(read_stamp) < 0)
    checks.count(late, "the segment of stage 1 came later than the read that took it")
    checks.segments.add_rows(rows.table)


def _check_arrival(checks: RowChecks, rows: Rows, nic: Int64s, stamped: Bools, other: Int64s) -> None:
    """Check `recv_time` against stage 1, and against the next best of rows without it."""
    recv_time = times(rows.table, "recv_time")[0]
    wrong = np.where(stamped, nic, other) != recv_time
    # a sent frame may have waited before its hand-off
    own = ~rows.received & ~stamped
    if own.any():
        wrong = np.where(own, recv_time > times(rows.table, HANDOFF.column)[0], wrong)
    checks.count(wrong, "recv_time is not the best arrival time")
