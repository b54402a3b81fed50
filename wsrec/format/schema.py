"""The columns of the message and event files.

This is the only place that defines them; a test compares docs/reference/format.md with it. A change that a reader could
notice raises `wsrec.format.version.FORMAT_VERSION`.
"""

from __future__ import annotations

import pyarrow as pa

UTC_NS = pa.timestamp("ns", tz="UTC")
FIRST_SEGMENT = "first_segment_to_nic"
READ_STAMP = "nic_to_read_stamp"
SEGMENT_ORDER = "segment_order"
SEGMENT_COLUMNS = (FIRST_SEGMENT, READ_STAMP, SEGMENT_ORDER)
"""The columns of message files that only `--segments` fills."""

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


MESSAGE_SCHEMA: pa.Schema = pa.schema(
    [
        _field(
            "seq",
            pa.uint64(),
            "the recorder's own count per session and feed, without gaps: a skipped number is a missing row",
            nullable=False,
        ),
        _field("conn", pa.uint16(), "connection, described in the file's metadata `wsrec.connections`", nullable=False),
        _field(
            "recv_time",
            UTC_NS,
            "best arrival time: stage 1, else RECV_END; sent rows: when sent",
            nullable=False,
        ),
        _field(
            "recv_source",
            _DICTIONARY,
            "the clock of `recv_time`: `nic`, `kernel`, `segment`, `segment-nic` or `user`",
            nullable=False,
        ),
        _field(
            "nic_to_event",
            pa.int64(),
            "ns from stage 1 (NIC, kernel or segment: `recv_source`) to stage 2; null: no stamp",
        ),
        _field(
            "event_to_recv_start",
            pa.int64(),
            "ns from stage 2 to 3; this and the next three are null in rows not received",
        ),
        _field("recv_start_to_recv_end", pa.int64(), "ns from stage 3 to 4: the read"),
        _field("recv_end_to_parsed", pa.int64(), "ns from stage 4 to 5"),
        _field("parsed_to_handoff", pa.int64(), "ns from stage 5 to 6"),
        _field("handoff_time", UTC_NS, "stage 6: just before the frame's slot was published", nullable=False),
        _field(
            "clock_offset",
            pa.int64(),
            "ns from the stage clock, which is never set, to UTC: `handoff_time` minus it orders rows and events",
            nullable=False,
        ),
        _field(
            "frame_in_read",
            pa.uint16(),
            "position among the frames completed by the same read, from 0",
            nullable=False,
        ),
        _field(
            "frames_in_read", pa.uint16(), "number of frames that this read completed; 0 in sent rows", nullable=False
        ),
        _field(
            "read_bytes",
            pa.uint32(),
            "bytes that this read took from the socket (TLS `direct`, `stamped`: ciphertext; `ktls`, `openssl`: "
            "decrypted); 0 in sent rows",
            nullable=False,
        ),
        _field(
            FIRST_SEGMENT,
            pa.int64(),
            "ns from the segment with the message's first byte to stage 1; this and the next two: with `--segments`",
        ),
        _field(
            READ_STAMP,
            pa.int64(),
            "ns from stage 1 to the stamp that came with the read: how late stage 1 would be without `--segments`",
        ),
        _field(
            SEGMENT_ORDER,
            _DICTIONARY,
            "how stage 1's segment came: `in_order`, `ahead` (of missing bytes), `filled` (these, later) or `repeated`",
        ),
        _field("direction", _DICTIONARY, "`recv`, `sent` or `rest` (a snapshot fetched over HTTP)", nullable=False),
        _field("opcode", _DICTIONARY, "`text`, `binary`, `ping`, `pong` or `close`", nullable=False),
        _field(
            "request",
            pa.uint32(),
            "number of a sent subscription request on its connection, see `wsrec.connections`",
        ),
        _field("channel", _DICTIONARY, "read by the feed's field paths"),
        _field("symbol", _DICTIONARY, "read by the feed's field paths, as the exchange writes it"),
        _field("exchange_time", UTC_NS, "the exchange's own event time"),
        _field("exchange_seq", pa.uint64(), "the sequence number that the feed's gap rule uses"),
        _field("text", pa.string(), "the payload, byte for byte, of a text message that is valid UTF-8"),
        _field("data", pa.binary(), "the payload, byte for byte, of any other message"),
    ]
)

EVENT_SCHEMA: pa.Schema = pa.schema(
    [
        _field("time", UTC_NS, "when it happened", nullable=False),
        _field("monotonic", pa.int64(), "its place among the rows, in ns on the stage clock; null: found by recovery"),
        _field("kind", _DICTIONARY, "the kind of event: docs/reference/format.md lists them", nullable=False),
        _field("conn", pa.uint16(), "the connection concerned"),
        _field("channel", pa.string(), "the channel concerned"),
        _field("symbol", pa.string(), "the symbol concerned"),
        _field("detail", pa.string(), "a JSON object with the details of this kind", nullable=False),
    ]
)
