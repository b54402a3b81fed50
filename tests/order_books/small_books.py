"""A feed with numbered books, and its messages."""

from __future__ import annotations

import json
from typing import Any

from tests.order_books.book_capture import Received
from wsrec.feed.schema import Feed

START = 1_795_352_400_000_000_000
SECOND = 1_000_000_000


def small_feed() -> Feed:
    """A feed with numbered books whose snapshots are in the stream."""
    channel = {
        "topic": "book.{symbol}",
        "common": "book",
        "default": True,
        "exchange_seq": ["n"],
        "seq_previous": ["p"],
        "sequence": "previous",
        "resets": {"messages": [{"path": "kind", "match": "snapshot"}]},
        "tables": [
            {
                "table": "book_changes",
                "snapshot": [{"path": "kind", "equals": "snapshot", "otherwise": "change"}],
                "bids": "b",
                "asks": "a",
                "level": ["price", "size"],
                "columns": {"update_id": "n", "prev_update_id": "p"},
            }
        ],
    }
    limits = {"streams_per_connection": 9, "messages_per_second": 9, "connects": 9, "connects_interval": 1}
    return Feed.model_validate(
        {
            "name": "small",
            "description": "numbered books",
            "sockets": {"main": {"url": "wss://h/s"}},
            "symbols": {"pattern": "[A-Z]+", "words": "capital letters", "example": "AB"},
            "subscribe": {"message": '{"topics":{topics}}'},
            "limits": limits,
            "fields": {"channel": ["c"], "symbol": ["s"]},
            "channels": {"book": channel},
        }
    )


def message(
    time: int, number: int, bids: dict[int, int], asks: dict[int, int] | None = None, *, conn: int = 0, **more: Any
) -> Received:
    """A message of the small feed, so many seconds after `START`."""
    levels = [[[str(price), str(size)] for price, size in (side or {}).items()] for side in (bids, asks)]
    body = {
        "c": "book",
        "s": "A",
        "n": number,
        "p": number - 1,
        "b": levels[0],
        "a": levels[1],
        "kind": "change",
        **more,
    }
    return Received(START + time * SECOND, json.dumps(body).encode(), conn)


def snapshot(time: int, number: int, *, conn: int = 0, **more: Any) -> Received:
    return message(time, number, {9: 1}, {12: 1}, conn=conn, kind="snapshot", **more)
