"""wsrec.writer.warnings: what an exchange sends makes a warning, and no large one."""

from __future__ import annotations

from typing import Any

import msgspec

from wsrec.feed.load import find_feed
from wsrec.log_folding import FoldedWarnings
from wsrec.ring.events import EventKind
from wsrec.writer.warnings import EventWarnings


def test_a_large_refusal_is_a_small_line_with_its_kind_and_stream() -> None:
    lines: list[dict[str, Any]] = []
    folded = FoldedWarnings(lambda message, hint, **about: lines.append({"message": message, **about}))
    topics = [f"topic {number}" for number in range(5000)]
    detail = {"topics": topics, "message": "x" * 1_000_000, "more": {"a": ["y" * 1_000_000]}, "symbol": "BTC"}
    EventWarnings(find_feed("binance"), folded).event(EventKind.REFUSED, 3, detail)
    (line,) = lines
    assert (line["feed"], line["conn"], line["kind"], line["symbol"]) == ("binance", 3, "refused", "BTC")
    assert line["detail"]["topics"] == topics[:20]
    assert len(msgspec.json.encode(line)) < 4000
