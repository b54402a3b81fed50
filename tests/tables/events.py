"""Events and messages of a session, as record batches, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.format.schema import EVENT_SCHEMA
from wsrec.format.stage_times import message_field
from wsrec.tables.file_rows import FileRows
from wsrec.tables.second_copies import CONTENT
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.trust import COLUMNS

MESSAGES = pa.schema([message_field(name) for name in (*COLUMNS, *CONTENT)])
UTC = 1_795_352_400_000_000_000


def feed(**more: Any) -> Feed:
    """A feed with a channel for each way in which rows are trusted."""
    snapshot = {"url": "https://h/{symbol}", "exchange_seq": ["id"]}
    channels: dict[str, dict[str, Any]] = {
        "trade": {"exchange_seq": ["n"], "sequence": "next"},
        "bbo": {},
        "book": {"exchange_seq": ["n"], "seq_previous": ["p"], "sequence": "previous"},
        "depth": {"exchange_seq": ["n"], "seq_first": ["f"], "sequence": "touching", "snapshot": snapshot},
        "up": {"exchange_seq": ["n"], "sequence": "increasing"},
    }
    return Feed.model_validate(
        {
            "name": "f",
            "description": "a feed",
            "sockets": {"main": {"url": "wss://h/s"}},
            "symbols": {"pattern": "[A-Z]+", "words": "capital letters", "example": "AB"},
            "subscribe": {"message": '{"topics":{topics},"id":{id}}'},
            "limits": {
                "streams_per_connection": 100,
                "messages_per_second": 100,
                "connects": 100,
                "connects_interval": 1,
            },
            "fields": {"channel": ["c"], "symbol": ["s"]},
            "channels": {name: {"topic": f"{name}.{{symbol}}", **about} for name, about in channels.items()},
            **more,
        }
    )


def connections(count: int = 1, *, turns: bool = False) -> list[dict[str, Any]]:
    """`wsrec.connections`, each with the topics of two symbols."""
    topics = [
        {"topic": f"{channel}.{symbol}", "channel": channel, "symbol": symbol}
        for channel in ("trade", "bbo", "book", "depth", "up")
        for symbol in "AB"
    ]
    requests = [{"number": 1, "topics": topics}]
    return [
        {"conn": conn, "standby_of": 0 if turns and conn else None, "requested_by_url": [], "requests": requests}
        for conn in range(count)
    ]


def event(monotonic: int | None, kind: str, conn: int | None = 0, **detail: Any) -> dict[str, Any]:
    """One event; `channel` and `symbol` go into their columns."""
    time = UTC + (monotonic or 0)
    own = {name: detail.pop(name, None) for name in ("channel", "symbol")}
    return {"time": time, "monotonic": monotonic, "kind": kind, "conn": conn, **own, "detail": json.dumps(detail)}


def event_batch(events: Iterable[dict[str, Any]]) -> pa.RecordBatch:
    """Events as those of a file."""
    rows = sorted(events, key=lambda each: (each["monotonic"] is None, each["monotonic"]))
    columns = [pa.array([row[field.name] for row in rows]) for field in EVENT_SCHEMA]
    typed = [column.cast(field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=EVENT_SCHEMA)


def session(
    *events: dict[str, Any],
    of: Feed | None = None,
    conns: int = 1,
    turns: bool = False,
    files: Sequence[FileRows] = (),
) -> SessionEvents:
    """What a session's events say: those with a `file` are in that one, the others in its first."""
    by_file: dict[int, list[dict[str, Any]]] = {number: [] for number in (1, *(each.number for each in files))}
    for each in events:
        by_file[each.get("file", 1)].append(each)
    batches = [(number, event_batch(found)) for number, found in by_file.items()]
    return SessionEvents(of or feed(), connections(conns, turns=turns), batches, files)


def message(
    handoff: int, channel: str = "trade", symbol: str | None = "A", number: int | None = None, **more: Any
) -> dict[str, Any]:
    """One message; `seq` is its hand-off time where nothing else is given."""
    return {
        "seq": handoff,
        "conn": 0,
        "handoff_monotonic": handoff,
        "direction": "recv",
        "channel": channel,
        "symbol": symbol,
        "exchange_seq": handoff if number is None else number,
        "text": f"{channel} {symbol} {handoff if number is None else number}",
        "data": None,
    } | more


def message_batch(messages: Iterable[dict[str, Any]], schema: pa.Schema = MESSAGES) -> pa.RecordBatch:
    """Messages as a batch."""
    rows = list(messages)
    columns = [
        pa.array([row[field.name] for row in rows], field.type.value_type).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array([row[field.name] for row in rows], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays([c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
