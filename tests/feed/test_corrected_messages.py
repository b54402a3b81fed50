"""Messages that were once read wrongly, as they are to be read: real or documented ones, beside the project."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.conftest import SHARED_DATA
from tests.real_messages import read, rows
from wsrec.feed.load import find_feed

MESSAGES = SHARED_DATA.parent / "cases" / "messages"


def ns(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


@pytest.mark.parametrize(
    ("feed", "file", "channel", "symbol", "time", "seq"),
    [
        ("gateio-futures", "gateio-futures-answer-time0.json", "subscribe", None, "2023-05-24 12:09:25", None),
        (
            "gateio-futures",
            "gateio-futures-no-time-ms.json",
            "futures.book_ticker",
            "ETH_USDT",
            "2026-03-25 12:53:34.909",
            92738902534,
        ),
        ("gemini", "gemini-one-sided.json", "bookTicker", "xrpgusd", "2026-07-13 22:19:00.076872", 1764549594389752),
        (
            "gemini",
            "gemini-contract-status.json",
            "contractStatus",
            "gemi-btc15m2607241200-hi100000",
            "2026-07-24 05:20:00",
            None,
        ),
        ("upbit", "upbit-microseconds.json", "orderbook", "USDT-ETC", "2023-08-08 21:40:05.062", None),
    ],
)
def test_is_read_rightly(field_reader, feed, file, channel, symbol, time, seq):
    path = MESSAGES / file
    if not path.exists():
        pytest.skip(f"the message is not beside the project: {path}")
    (row,) = rows(read(field_reader(find_feed(feed)), [path.read_bytes().strip()]))
    reported = row[2] // 1000 * 1000 if feed == "gemini" else row[2]
    assert (*row[:2], reported, row[3]) == (channel, symbol, ns(time), seq)


@pytest.mark.parametrize("market", ["spot", "futures"])
def test_a_book_of_gate_that_is_replaced_is_reported(field_reader, market):
    import json

    import numpy as np

    from wsrec.monitor.sequence import SequenceChecker

    path = MESSAGES / "gateio-obu-full-in-mid-stream.jsonl"
    if not path.exists():
        pytest.skip(f"the messages are not beside the project: {path}")
    feed = find_feed("gateio" if market == "spot" else "gateio-futures")
    payloads = path.read_bytes().replace(b"spot.obu", f"{market}.obu".encode()).splitlines()
    columns = read(field_reader(feed), payloads)
    found = SequenceChecker(feed).check(np.zeros(len(payloads), np.uint16), columns).gaps
    assert [(gap.index, str(gap.what), gap.expected, gap.found) for gap in found] == [
        (3, "reset", 25847113101, json.loads(payloads[3])["result"]["u"])
    ]
