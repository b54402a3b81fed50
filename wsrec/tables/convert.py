"""Messages of a capture as rows of the tables: batches of a messages file in, batches of each table out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import Int64s
from wsrec.decode.instrument_rows import InstrumentReader
from wsrec.decode.packed import json_of
from wsrec.decode.row_columns import InexactError
from wsrec.decode.table_blocks import LeftOut, Messages, NumberRefusedError, TableBlock
from wsrec.decode.table_implementation import TableReader
from wsrec.feed.instruments import CHANNEL
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import STATES, Table
from wsrec.format.columns import words
from wsrec.monitor.acks import AckTracker
from wsrec.options.export import Numbers
from wsrec.tables.left_out_doubts import LeftOutDoubts, LeftOutMessage
from wsrec.tables.listings import Listings
from wsrec.tables.schema import table_schema
from wsrec.tables.trust import COLUMNS as TRUSTED
from wsrec.tables.trust import HISTORY, UNPROVED, Codes, Trust

NEEDED = tuple(
    dict.fromkeys([*TRUSTED, "recv_time", "exchange_time", "opcode", "text", "data"]),
)
"""The columns of messages that a conversion reads."""


_ANSWER = "an answer to a request"


class Reason(NamedTuple):
    """Why messages, or parts of them, make no rows, or none with a value.

    Attributes:
        channel: the channel, as messages carry it; None: none.
        table: the table; None: all.
        reason: why.
        is_skip: whether a declaration skips them by intent.
        is_null: whether their rows are made, with null in place of what is there.

    """

    channel: str | None
    table: Table | None
    reason: str
    is_skip: bool
    is_null: bool


class Occurrences(NamedTuple):
    """How often, and where first.

    Attributes:
        times: how often.
        seq: `seq` of the first such message.

    """

    times: int
    seq: int


class RefusedNumberError(Exception):
    """A number does not fit the decimal type; the text names the column, the number and its message."""


class Converter:
    """Converts the messages of one feed of one session, in order.

    Args:
        feed: the feed with the declarations.
        session: the session.
        tables: the tables that are wanted.
        numbers: the type of numbers.
        trust: what is known of the rows; None: nothing, so all are unproved.
        listings: the instruments with their contract sizes; None: unknown.

    Attributes:
        trust, listings: as given.
        messages: how many messages were read.
        rows: rows made, by table.
        rounded: by table how many numbers a double does not hold exactly as written.
        left_out: what makes no rows, or rows with null in place of what is there, by reason.

    """

    def __init__(
        self,
        feed: Feed,
        session: str,
        tables: Sequence[Table],
        numbers: Numbers = Numbers.FLOAT,
        trust: Trust | None = None,
        listings: Listings | None = None,
    ) -> None:
        self.reset_counts()
        self.trust = trust
        self._feed, self._session = feed, session
        self.listings = listings
        self._schemas: dict[Table, pa.Schema] = {
            table: table_schema(table, numbers) for table in tables if table != Table.GAPS
        }
        others = {table: table_schema(table) for table in _beside(feed, self._schemas)}
        self._reader = TableReader(feed, others | self._schemas)
        self._acks = AckTracker(feed)
        self._instruments = InstrumentReader(feed.instruments) if feed.instruments is not None else None
        self._names: dict[str | None, str | None] = {}

    def reset_counts(self) -> None:
        """Count from here: a file begins."""
        self.messages = 0
        self.rows: dict[Table, int] = {}
        self.rounded: dict[Table, int] = {}
        self.left_out: dict[Reason, Occurrences] = {}
        self._doubts = LeftOutDoubts()

    def convert(self, batch: pa.RecordBatch) -> Iterator[tuple[Table, pa.RecordBatch]]:
        """The rows of a batch of messages (`NEEDED`), a batch a table, each in order of (`seq`, `item`).

        Raises:
            RefusedNumberError: a number does not fit the decimal type of its column.

        """
        payload = self._payload(batch)
        symbols = batch.column("symbol").cast(pa.string())
        conns = batch.column("conn").to_numpy().astype(np.int64)
        seqs = batch.column("seq").to_numpy()
        found: dict[Table, list[tuple[TableBlock, str]]] = {}
        lacking: list[LeftOutMessage] = []
        for channel, is_rest, chosen in _by_channel(batch):
            if is_rest and channel == CHANNEL:
                # about rows, not of rows
                self._count_listings(payload, chosen, seqs)
                continue
            self.messages += len(chosen)
            messages = Messages(payload, chosen, channel, is_rest, symbols, conns)
            try:
                blocks, left_out = self._reader.read(messages)
            except NumberRefusedError as error:
                where = f"message {seqs[error.message]} of session {self._session}"
                raise RefusedNumberError(f"{error}: {where}") from error
            asked = [each for each in left_out if each.table is None or each.table in self._schemas]
            explained = self._explained(asked, channel, payload)
            self._count(explained, channel, seqs)
            lacking += self._lacking(explained, channel, symbols, seqs)
            for block in (each for each in blocks if each.table in self._schemas):
                found.setdefault(block.table, []).append((block, self._catalogue_name(channel)))
        states = self._states(found, batch)
        for table in self._schemas:
            if table in found:
                made = self._merged(table, found[table], states[table], batch, symbols)
                made = self._doubts.marked(table, made, lacking)
                self.rows[table] = self.rows.get(table, 0) + made.num_rows
                self.rounded[table] = self.rounded.get(table, 0) + sum(block.rounded for block, _ in found[table])
                yield table, made
            else:
                self._doubts.noted(table, lacking)

    def disconnected(self, conn: int) -> None:
        """Forget what is remembered of a connection that ended."""
        self._reader.disconnected(conn)

    def _count_listings(self, payload: pa.Array, chosen: Int64s, seqs: npt.NDArray[np.uint64]) -> None:
        """Count listings of instruments, and instruments in them, that cannot be read."""
        if self._instruments is None:
            return
        for index in chosen.tolist():
            answer = payload[index].as_py() or b""
            problem = self._instruments.problem(answer)
            refused = 0 if problem else self._instruments.refused(answer)
            reasons = [LeftOut(index, None, f"a listing of instruments: {problem}")] if problem else []
            reasons += [LeftOut(index, None, "an instrument of a listing that cannot be read")] * refused
            self._count(reasons, CHANNEL, seqs)

    def _catalogue_name(self, channel: str | None) -> str:
        """The catalogue's name of a channel that messages may name otherwise."""
        if channel not in self._names:
            table, model = self._feed.channel_table, self._feed.channel_by_any_name.get(channel or "")
            same = next((name for name, each in table.items() if each is model), channel)
            self._names[channel] = channel if channel in table else same
        return self._names[channel] or ""

    def _states(self, found: Mapping[Table, list[tuple[TableBlock, str]]], batch: pa.RecordBatch) -> dict[Table, Codes]:
        """The states of the batch's messages, in each table."""
        states = {table: np.full(batch.num_rows, UNPROVED, np.uint8) for table in found}
        if self.trust is None:
            return states
        taken = self.trust.take(batch.select(list(self.trust.columns)))
        of_trust = batch.select(list(TRUSTED))
        for table, blocks in found.items():
            chosen = _distinct([block.message for block, _ in blocks], batch.num_rows)
            rows = of_trust.take(pa.array(chosen))
            if table is not Table.BOOK_CHANGES:
                states[table][chosen] = self.trust.states(rows, taken.among(chosen), table)
                continue
            snapshots = np.zeros(batch.num_rows, np.bool_)
            for block, _ in blocks:
                is_snapshot = block.columns["is_snapshot"].to_numpy(zero_copy_only=False).astype(np.bool_)
                snapshots[block.message[is_snapshot]] = True
            states[table][chosen] = self.trust.book_states(rows, snapshots[chosen], taken.among(chosen))
        return states

    def _payload(self, batch: pa.RecordBatch) -> pa.Array:
        """The payloads as JSON in one `large_binary` array."""
        text, data = batch.column("text").cast(pa.binary()), batch.column("data")
        whole = (text if data.null_count == len(data) else pc.coalesce(text, data)).cast(pa.large_binary())
        fields = self._feed.fields
        if fields is None or fields.binary == "json":
            return whole
        binary = pc.equal(batch.column("opcode").cast(pa.string()), "binary").to_numpy(zero_copy_only=False)
        return json_of(fields, whole, np.ones(len(whole), np.bool_), binary.astype(np.bool_))[0]

    def _explained(self, left_out: Sequence[LeftOut], channel: str | None, payload: pa.Array) -> Sequence[LeftOut]:
        """What is left out by intent, marked as that: answers to requests, levels that a declaration names."""
        if not left_out:
            return left_out
        by_intent = {each.zero_price for each in self._feed.tables_of(channel)}
        found = []
        for each in left_out:
            known = each.is_skip or each.is_null
            if not known and each.reason in by_intent:
                each = each._replace(is_skip=True)
            elif not known and self._acks.is_answer(payload[each.message].as_py()):
                each = each._replace(table=None, reason=_ANSWER, is_skip=True)
            found.append(each)
        return found

    def _lacking(
        self, left_out: Sequence[LeftOut], channel: str | None, symbols: pa.Array, seqs: npt.NDArray[np.uint64]
    ) -> list[LeftOutMessage]:
        """The messages of a channel with tables of which something was left out, which was not meant to be."""
        if channel is None or not self._feed.tables_of(channel):
            return []
        name = self._catalogue_name(channel)
        return [
            LeftOutMessage(int(seqs[each.message]), name, symbols[each.message].as_py(), each.table)
            for each in left_out
            if not (each.is_skip or each.is_null)
        ]

    def _count(self, left_out: Sequence[LeftOut], channel: str | None, seqs: npt.NDArray[np.uint64]) -> None:
        for each in left_out:
            reason = Reason(channel, each.table, each.reason, each.is_skip, each.is_null)
            known = self.left_out.get(reason)
            seq = int(seqs[each.message]) if known is None else known.seq
            self.left_out[reason] = Occurrences(1 if known is None else known.times + 1, seq)

    def _merged(
        self,
        table: Table,
        parts: Sequence[tuple[TableBlock, str]],
        states: Codes,
        batch: pa.RecordBatch,
        symbols: pa.Array,
    ) -> pa.RecordBatch:
        """The blocks of a table as one batch, in the order of messages."""
        schema = self._schemas[table]
        batches = [self._batch(schema, block, channel, states, batch, symbols) for block, channel in parts]
        if len(batches) == 1:
            return batches[0]
        order = np.argsort(np.concatenate([block.message for block, _ in parts]), kind="stable")
        joined = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
        (merged,) = joined.take(pa.array(order)).combine_chunks().to_batches()
        return merged

    def _batch(
        self,
        schema: pa.Schema,
        block: TableBlock,
        channel: str,
        states: Codes,
        batch: pa.RecordBatch,
        symbols: pa.Array,
    ) -> pa.RecordBatch:
        count = len(block.message)
        rows = pa.array(block.message)
        given = dict(block.columns)
        for name, word in (("feed", self._feed.name), ("session", self._session), ("channel", channel)):
            given[name] = _constant(word, count)
        for name in ("seq", "conn", "recv_time"):
            given[name] = batch.column(name).take(rows)
        given["item"] = pa.array(_items(block.message))
        given["state"] = _state_column(states[block.message], block.columns.get("flags"))
        if "exchange_time" not in given:
            given["exchange_time"] = batch.column("exchange_time").take(rows)
        if "symbol" not in given:
            given["symbol"] = symbols.take(rows).dictionary_encode()
        if self.listings and "multiplier" in schema.names and "size_unit" in given:
            times = given["recv_time"].cast(pa.int64()).to_numpy()
            kind = schema.field("multiplier").type
            try:
                given |= self.listings.columns(given["symbol"], given["size_unit"], times, kind)
            except InexactError as error:
                where = f"{given['symbol'][error.index]} in the listing for message {given['seq'][error.index]}"
                raise RefusedNumberError(f"multiplier: {error}: {where} of session {self._session}") from error
        columns = [given[field.name] if field.name in given else pa.nulls(count, field.type) for field in schema]
        typed = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(typed, schema=schema)


def _beside(feed: Feed, tables: Collection[Table]) -> set[Table]:
    """Tables that some messages make in place of these: then they are not without rows."""
    found: set[Table] = set()
    for name in feed.channel_by_any_name:
        declared = feed.tables_of(name)
        asked = [each for each in declared if each.table in tables]
        if asked and all(each.when for each in asked):
            found |= {each.table for each in declared if each.table is not None}
    return found - {*tables}


def _state_column(states: Codes, flags: pa.Array | None) -> pa.DictionaryArray:
    """States as words; rows that were sent again on subscribing are history."""
    if flags is not None:
        is_snapshot = pc.equal(flags.flatten(), "snapshot").to_numpy(zero_copy_only=False).astype(np.bool_)
        states[pc.list_parent_indices(flags).to_numpy()[is_snapshot]] = HISTORY
    return pa.DictionaryArray.from_arrays(pa.array(states.astype(np.int32)), pa.array(STATES))


def _by_channel(batch: pa.RecordBatch) -> Iterator[tuple[str | None, bool, Int64s]]:
    """The messages of each channel, streamed and fetched ones apart: channel, whether fetched, indices."""
    direction, directions = words(batch, "direction")
    opcode, opcodes = words(batch, "opcode")
    channel, channels = words(batch, "channel")
    is_rest = direction == _code(directions, "rest")
    is_message = np.isin(opcode, [_code(opcodes, "text"), _code(opcodes, "binary")])
    received = is_message & (direction == _code(directions, "recv"))
    for wanted, rest in ((received, False), (is_rest, True)):
        for code in np.flatnonzero(np.bincount(channel[wanted], minlength=len(channels))).tolist():
            yield channels[code], rest, np.flatnonzero(wanted & (channel == code))


def _code(known: Sequence[str | None], word: str) -> int:
    return known.index(word) if word in known else -1


def _distinct(parts: Sequence[Int64s], count: int) -> Int64s:
    """The messages of a batch of `count` that are in some of the parts, in order."""
    there = np.zeros(count, np.bool_)
    for part in parts:
        there[part] = True
    return np.flatnonzero(there)


def _items(message: Int64s) -> npt.NDArray[np.uint32]:
    """The number of each row within its message."""
    if not len(message):
        return np.zeros(0, np.uint32)
    is_first = np.concatenate([[True], message[1:] != message[:-1]])
    starts = np.flatnonzero(is_first)
    return (np.arange(len(message)) - np.repeat(starts, np.diff([*starts, len(message)]))).astype(np.uint32)


def _constant(word: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([word], pa.string()))
