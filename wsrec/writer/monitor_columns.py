"""Slots in the form that the monitor reads; snapshots among them are not messages of their streams."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from wsrec.arrays import where_set
from wsrec.decode.columns import FieldColumns
from wsrec.decode.places import integer_in
from wsrec.feed.channel import Snapshot
from wsrec.feed.instruments import CHANNEL
from wsrec.feed.schema import Feed
from wsrec.monitor.check import RowBatch, RowColumns, SnapshotRow
from wsrec.monitor.streams import StreamTable
from wsrec.ring.slot_flags import FLAG_REST, FLAG_RSV1
from wsrec.ring.slotring import request_numbers
from wsrec.wire import frames
from wsrec.writer.gather import Slots
from wsrec.writer.instrument_requests import LISTING_STREAMS
from wsrec.writer.rows import Stamps


class SlotColumns:
    """Turns one feed's slots into columns.

    Args:
        feed: the feed.
        streams: its streams; the slots of snapshots have the stream's number as their offset.

    """

    def __init__(self, feed: Feed, streams: StreamTable) -> None:
        self._streams = streams
        channels = feed.channel_by_any_name.items()
        self._snapshots: Mapping[str, Snapshot | None] = {name: channel.snapshot for name, channel in channels}

    def read(self, first: int, slots: Slots, when: Stamps, payload: pa.Array) -> RowColumns:
        """The columns of slots; the first slot is the row with this `seq`."""
        carries = slots["opcode"] < frames.CLOSE
        fetched = where_set(slots["flags"] & FLAG_REST) if not when.received.all() else ()
        return RowColumns(
            first=first,
            conns=slots["conn"],
            stage=when.stage,
            arrival=when.recv_time,
            payload=payload,
            received=when.received,
            carries=carries,
            readable=when.received & carries & (slots["flags"] & FLAG_RSV1 == 0),
            binary=slots["opcode"] == frames.BINARY,
            requests=request_numbers(slots),
            snapshots={
                int(row): self._snapshot(int(slots["offset"][row]), payload[int(row)].as_py()) for row in fetched
            },
        )

    def _snapshot(self, stream: int, payload: bytes) -> SnapshotRow:
        """A snapshot fetched for a stream, or a listing of instruments."""
        if stream >= LISTING_STREAMS:
            return SnapshotRow(CHANNEL, None, None)
        topic = self._streams.streams[stream].topic
        snapshot = self._snapshots[topic.channel]
        number = None if snapshot is None else integer_in(payload, snapshot.exchange_seq)
        return SnapshotRow(topic.channel, topic.symbol, number)


def named_fields(batch: RowBatch) -> FieldColumns:
    """The fields of rows; a snapshot has those of its stream."""
    fields = batch.fields
    if not batch.snapshots:
        return fields
    channels, symbols, seqs = (c.to_pylist() for c in (fields.channel, fields.symbol, fields.exchange_seq))
    for row, snapshot in batch.snapshots.items():
        channels[row], symbols[row], seqs[row] = snapshot
    return fields._replace(
        channel=pa.array(channels, pa.string()).dictionary_encode(),
        symbol=pa.array(symbols, pa.string()).dictionary_encode(),
        exchange_seq=pa.array(seqs, pa.uint64()),
    )
