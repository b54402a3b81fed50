"""Rows of a message file as columns, and checks of them: order, stages, valid values, totals."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import distinct, known, lengths, values
from wsrec.counts import Counts
from wsrec.format.columns import Bools, times, words
from wsrec.format.counting import count_rows
from wsrec.format.layout import hour
from wsrec.format.stage_histograms import StageHistograms
from wsrec.histogram import Int64s
from wsrec.monitor.check import RowColumns, SnapshotRow
from wsrec.stages import EVENT, HANDOFF, NIC, RECV_END, STAGES, STEPS

COLUMNS = (
    "seq",
    "conn",
    "recv_time",
    "recv_source",
    *(stage.column for stage in STAGES),
    "handoff_monotonic",
    "frame_in_read",
    "direction",
    "opcode",
    "request",
    "channel",
    "symbol",
    "exchange_time",
    "exchange_seq",
    "text",
    "data",
)
_MONOTONIC = STAGES[1:]
_DIRECTIONS = {"recv", "sent", "rest"}
_OPCODES = {"text", "binary", "ping", "pong", "close"}
_SOURCES = {"nic", "kernel", "user"}
# allowed difference in UTC from the anchors around a row: the clock's rate may change between them
_SLACK_NS = 1_000_000

Words = tuple[npt.NDArray[np.integer], list[str | None]]
"""A column of words as codes, and the word of each; the last code is null's."""


class Rows:
    """Rows of a message file as columns.

    Attributes:
        table: the rows as stored in the file.
        stage: hand-off of each row (ns on the stage clock).
        conns: connection of each row.
        payload: `large_binary` array.
        carried: received rows that are text or binary.
        received: rows that were received.
        binary: rows that are binary.
        messages: rows that are text or binary.
        sent, fetched: rows that were sent, and those that were fetched over HTTP.
        direction, opcode, channels, symbols: the columns of words.

    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.stage = table.column("handoff_monotonic").to_numpy()
        self.conns = table.column("conn").to_numpy(zero_copy_only=False)
        self.seq = table.column("seq").to_numpy(zero_copy_only=False)
        self.direction, self.opcode = (words(table, name) for name in ("direction", "opcode"))
        self.received, self.sent, self.fetched = (_among(self.direction, {way}) for way in ("recv", "sent", "rest"))
        self.binary, self.messages = _among(self.opcode, {"binary"}), _among(self.opcode, {"text", "binary"})
        self.carried = self.received & self.messages
        self.payload = _payload(table.column("text"), table.column("data"))
        self.channels, self.symbols = words(table, "channel"), words(table, "symbol")

    def columns(self, start: int, stop: int) -> RowColumns:
        """A range of the rows in the form that the monitor reads."""
        span = slice(start, stop)
        part = self.table.slice(start, stop - start)
        requests = part.column("request").fill_null(0).to_numpy(zero_copy_only=False)
        return RowColumns(
            first=int(self.seq[start]),
            conns=self.conns[span],
            stage=self.stage[span],
            arrival=times(part, "recv_time")[0],
            payload=self.payload[span],
            received=self.received[span],
            carries=self.messages[span],
            readable=self.carried[span],
            binary=self.binary[span],
            requests=requests,
            snapshots={row: _snapshot(part, row) for row in np.flatnonzero(self.fetched[span]).tolist()},
        )


class Anchors:
    """Anchors, which tie the stage clock to UTC; `handoff_time` is checked against them."""

    def __init__(self) -> None:
        self._stages: list[int] = []
        self._offsets: list[int] = []
        self._given_up: list[tuple[int, int]] = []
        self._clock: str | None = None

    def add(self, stage: int, realtime: int, clock: str | None = None, drift: int = 0) -> None:
        """Add an anchor (ns), in order of time; if its clock differs, the previous clock was ahead by `drift`."""
        if self._clock is not None and clock != self._clock:
            self._given_up.append((stage, max(drift, 0)))
        self._clock = clock
        if not self._stages or stage > self._stages[-1]:
            self._stages.append(stage)
            self._offsets.append(realtime - stage)

    def forget_before(self, stage: int) -> None:
        """Drop anchors that are only needed for rows before this hand-off."""
        keep = max(bisect_right(self._stages, stage) - 2, 0)
        del self._stages[:keep], self._offsets[:keep]

    def explain(self, before: int, after: int) -> bool:
        """Whether the stage clock may go back from `before` to `after`: its counter was ahead and was replaced."""
        return any(after >= stage - ahead and before <= stage + ahead for stage, ahead in self._given_up)

    def off_utc(self, stage: Int64s, utc: Int64s) -> Bools:
        """Mask of rows whose UTC differs from the anchors before and after them; False outside all anchors."""
        if len(self._stages) < 2:
            return np.zeros(len(stage), np.bool_)
        offsets = np.array(self._offsets)
        after = np.searchsorted(self._stages, stage)
        inside = (after > 0) & (after < len(offsets))
        around = offsets[np.clip(after - 1, 0, None)], offsets[np.clip(after, None, len(offsets) - 1)]
        found = utc - stage
        wrong: Bools = inside & ((found < np.minimum(*around) - _SLACK_NS) | (found > np.maximum(*around) + _SLACK_NS))
        return wrong


class FileRows:
    """Totals of one message file's rows.

    Attributes:
        rows: number of rows.
        first_seq, last_seq, first_time, last_time: of the first and the last row (`recv_time`).
        first_handoff, last_handoff: their hand-offs (ns on the stage clock).
        opcodes: rows by direction and opcode.
        bytes: payload bytes by direction.
        counts: the counters that follow from rows.
        hours: the hours that they belong to (`wsrec.format.layout.hour`), those of each batch's first and last row.
        problems: number of invalid rows by problem.
        steps: the durations of the steps between the stages.

    """

    def __init__(self, conns: set[int], anchors: Anchors, handoff: int | None) -> None:
        self.rows = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.first_time: int | None = None
        self.last_time: int | None = None
        self.first_handoff: int | None = None
        self.last_handoff: int | None = None
        self.opcodes: Counter[tuple[str | None, str | None]] = Counter()
        self.bytes: Counter[str | None] = Counter()
        self.hours: set[int] = set()
        self.problems: Counter[str] = Counter()
        self.counts = Counts()
        self.steps = StageHistograms()
        self._conns = conns
        self._anchors = anchors
        self._before = handoff
        self._sources: Counter[str] = Counter()

    def add(self, rows: Rows) -> None:
        """Check a batch of rows."""
        batch, seq = rows.table, rows.seq
        recv_time, _ = times(batch, "recv_time")
        if not self.rows:
            self.first_seq, self.first_time = int(seq[0]), int(recv_time[0])
        self.last_seq, self.last_time = int(seq[-1]), int(recv_time[-1])
        self.rows += len(seq)
        bytes_of = lengths(rows.payload)
        self.counts += count_rows(rows.received, rows.carried, rows.sent, bytes_of)
        source = words(batch, "recv_source")
        self._count_opcodes(rows, bytes_of)
        self._check_words(rows, source)
        self._check_payload(rows)
        self._check_stages(rows, recv_time, source)

    def _count_opcodes(self, rows: Rows, bytes_of: Int64s) -> None:
        (ways, way_names), (codes, code_names) = rows.direction, rows.opcode
        pairs = np.bincount(ways * len(code_names) + codes)
        for pair in np.flatnonzero(pairs).tolist():
            way, code = divmod(pair, len(code_names))
            self.opcodes[way_names[way], code_names[code]] += int(pairs[pair])
        for way in distinct(ways):
            self.bytes[way_names[way]] += int(bytes_of.sum(where=ways == way))

    def stage1(self, stated: Any) -> Any:
        """The expected `wsrec.stage1`; only the writer knows the reasons of rows without a stamp."""
        none = self._sources.pop("user", 0)
        pairs = stated.items() if isinstance(stated, dict) else ()
        reasons = {key: value for key, value in pairs if key.startswith("none: ")}
        fits = all(isinstance(value, int) for value in reasons.values()) and sum(reasons.values()) == none
        return {**self._sources, **(reasons if fits else {"none": none} if none else {})}

    def _check_words(self, rows: Rows, source: Words) -> None:
        columns = ("direction", rows.direction, _DIRECTIONS), ("opcode", rows.opcode, _OPCODES)
        for column, (codes, names), expected in (*columns, ("recv_source", source, _SOURCES)):
            for code in distinct(codes):
                if names[code] not in expected:
                    self.problems[f"{column} has an unknown value"] += int(np.count_nonzero(codes == code))
        strange = [conn for conn in distinct(rows.conns) if conn not in self._conns]
        if strange:
            self.problems["their connection is not in wsrec.connections"] += int(np.isin(rows.conns, strange).sum())

    def _check_payload(self, rows: Rows) -> None:
        text, data = (known(rows.table.column(name)) for name in ("text", "data"))
        self._count(text == data, "not exactly one of text and data has the payload")
        self._count(text & ~_among(rows.opcode, {"text"}), "a payload is in text, but its opcode is not text")

    def _check_stages(self, rows: Rows, recv_time: Int64s, source: Words) -> None:
        batch, received = rows.table, rows.received
        stamps = {stage: times(batch, stage.column) for stage in STAGES}
        handoff = stamps[HANDOFF][0]
        self.hours |= {int(hour(np.min(handoff))), int(hour(np.max(handoff)))}
        order = rows.stage
        previous = np.concatenate(([order[0] if self._before is None else self._before], order[:-1]))
        for row in np.flatnonzero(order < previous).tolist():
            if not self._anchors.explain(int(previous[row]), int(order[row])):
                self.problems["handoff_monotonic is before that of the row before"] += 1
        self._count(self._anchors.off_utc(order, handoff), "handoff_time differs from the anchors around it")
        self._before = self.last_handoff = int(order[-1])
        if self.first_handoff is None:
            self.first_handoff = int(order[0])
        decreasing = np.zeros(len(handoff), np.bool_)
        for start, end in itertools.pairwise(_MONOTONIC):
            both = stamps[start][1] & stamps[end][1]
            decreasing |= both & (stamps[end][0] < stamps[start][0])
        self._count(decreasing, "stages 2 to 6 decrease within the row")
        has_event = stamps[EVENT][1]
        same = np.all([stamps[stage][1] == has_event for stage in _MONOTONIC[:-1]], axis=0)
        self._count(~same | (has_event != received), "stages 2 to 5 do not fit the direction")
        nic, stamped = stamps[NIC]
        best = np.where(stamped, nic, np.where(has_event, stamps[RECV_END][0], handoff))
        # a sent frame may have waited before its hand-off
        own = ~received & ~stamped
        self._count(np.where(own, recv_time > handoff, best != recv_time), "recv_time is not the best arrival time")
        self._count(_among(source, {"user"}) == stamped, "recv_source does not fit stage 1")
        counts = np.bincount(source[0][received], minlength=len(source[1]))
        self._sources.update({name: int(n) for name, n in zip(source[1], counts, strict=True) if n and name})
        steps = []
        for step in STEPS:
            (begin, has_begin), (stop, has_stop) = stamps[step.start], stamps[step.end]
            timed = received & has_begin & has_stop
            steps.append((stop - begin, None if timed.all() else timed))
        self.steps.add(values(batch.column("frame_in_read")), steps, None if received.all() else received)

    def _count(self, wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            self.problems[what] += int(np.count_nonzero(wrong))


def _snapshot(part: Any, row: int) -> SnapshotRow:
    return SnapshotRow(*(part.column(name)[row].as_py() for name in ("channel", "symbol", "exchange_seq")))


def _among(codes: tuple[npt.NDArray[np.integer], list[str | None]], known: set[str]) -> Bools:
    """Mask of a column's values that are in `known`."""
    are = np.array([word in known for word in codes[1]])
    # the last code is null's
    if len(are) == 2:
        return np.full(len(codes[0]), are[0]) if not codes[0].any() else are[codes[0]]
    found: Bools = are[codes[0]]
    return found


def _payload(text: pa.Array, data: pa.Array) -> pa.Array:
    """The payloads as `large_binary`; those of a batch of only texts, or none, are not copied."""
    if not text.null_count:
        return text.cast(pa.binary()).cast(pa.large_binary())
    if not data.null_count:
        return data.cast(pa.large_binary())
    return pc.coalesce(text.cast(pa.binary()), data).cast(pa.large_binary())
