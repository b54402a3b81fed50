"""wsrec.report.verdict: no more is claimed than files, events and rules tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.capture_files import START, Capture, message_columns
from wsrec.feed.load import find_feed
from wsrec.format.selection import Selection
from wsrec.report.collect import collect
from wsrec.report.model import Verdict
from wsrec.report.verdict import rules_of

RULES = {"channels": {name: {"sequence": "next"} for name in ("trade", "depth", "bookTicker")}}
STARTED = {"time": START, "kind": "session_start"}


def judged(capture: Capture, **chosen: Any) -> Verdict:
    return collect([capture.out], selection=Selection(**chosen)).recordings[0].verdict


class TestComplete:
    def test_needs_numbers_of_each_channel(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=RULES)
        assert judged(capture).state == "complete"

    @pytest.mark.parametrize("rule", ["increasing", "none"])
    def test_a_rule_that_shows_no_loss_proves_nothing(self, capture: Capture, rule: str) -> None:
        config = {"channels": {**RULES["channels"], "bookTicker": {"sequence": rule}}}
        capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=config)
        assert judged(capture) == Verdict(
            state="unproved",
            sentence="no loss known. Checked by sequence number: depth, trade. Not checkable: bookTicker",
            missing=[],
            unknown=["not checkable by sequence number: bookTicker"],
        )

    def test_what_is_not_known_comes_before_what_was_checked(self, capture: Capture) -> None:
        config = {"channels": {**RULES["channels"], "bookTicker": {"sequence": "none"}}}
        events = [STARTED, {"time": START, "kind": "disconnect"}]
        capture.write(message_columns(30), gaps=0, events=events, feed_config=config)
        assert judged(capture).sentence == (
            "no loss known, but 1 disconnection. Checked by sequence number: depth, trade. Not checkable: bookTicker"
        )

    def test_without_any_number_all_channels_are_named(self, capture: Capture) -> None:
        capture.write(message_columns(30), events=[STARTED], feed_config={"channels": {}})
        assert judged(capture).sentence == "no loss known. Not checkable: bookTicker, depth, trade"

    def test_a_channel_without_a_rule_in_one_of_the_files_is_not_proved(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=RULES, feed_config_sha256="a")
        capture.write(message_columns(30, first_seq=30), gaps=0, feed_config={"channels": {}}, feed_config_sha256="b")
        assert judged(capture).state == "unproved"

    @pytest.mark.parametrize(
        ("kind", "detail"),
        [("disconnect", {}), ("unchecked", {"compared": 3, "skipped": {"no number": 2}})],
    )
    def test_what_was_not_compared_is_not_proved(self, capture: Capture, kind: str, detail: dict[str, Any]) -> None:
        events = [STARTED, {"time": START, "kind": kind, "channel": "trade", "detail": detail}]
        capture.write(message_columns(30), gaps=0, events=events, feed_config=RULES)
        assert judged(capture).state == "unproved"

    def test_nor_without_events_nor_earlier_files_nor_of_a_part(self, capture: Capture) -> None:
        capture.write(message_columns(30, first_seq=5), gaps=0, feed_config=RULES)
        assert judged(capture).unknown == [
            "no events lie beside these files",
            "earlier files of a session are not in this report",
        ]
        part = judged(capture, channels=("trade",))
        assert (part.state, part.unknown) == ("unproved", ["of a part it is not said whether rows are missing"])

    def test_nor_beside_a_file_that_cannot_be_read(self, capture: Capture) -> None:
        path = capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=RULES)
        path.with_name("20261122T130000Z-a1-000009.parquet").write_bytes(b"PAR1")
        assert judged(capture).unknown == ["1 file or folder could not be read"]

    def test_no_rows(self, capture: Capture) -> None:
        capture.write(message_columns(0), gaps=0, events=[STARTED], feed_config=RULES)
        assert (judged(capture).state, judged(capture).sentence) == ("unproved", "there are no rows")


class TestIncomplete:
    def test_each_loss_is_named(self, capture: Capture) -> None:
        columns = message_columns(30)
        columns["seq"] = np.array([*range(10), *range(12, 32)], np.uint64)
        lost = {"from": START, "to": START + 2_300_000_000}
        events = [
            STARTED,
            {"time": START, "kind": "lost_interval", "detail": lost},
            {"time": START, "kind": "refused", "detail": {"topics": ["a", "b"]}},
            {"time": START, "kind": "not_inflated", "detail": {"count": 1}},
        ]
        capture.write(columns, gaps=3, events=events, feed_config=RULES)
        found = judged(capture)
        assert found.state == "incomplete"
        assert found.missing == [
            "2 rows missing",
            "3 gaps in the exchange's numbers",
            "1 lost interval (2.30 s)",
            "2 subscriptions refused",
            "1 message not inflated",
        ]

    def test_a_loss_elsewhere_is_not_the_part_s(self, capture: Capture) -> None:
        gap = {"time": START, "kind": "gap", "channel": "depth", "symbol": "BTCUSDT"}
        capture.write(message_columns(30), gaps=1, events=[STARTED, gap], feed_config=RULES)
        assert judged(capture, channels=("depth",)).state == "incomplete"
        assert judged(capture, channels=("trade",)).state == "unproved"


class TestRules:
    @pytest.mark.parametrize("name", ["binance-usdm", "kraken", "okx", "bitmex"])
    def test_are_those_that_the_feed_itself_tells(self, name: str) -> None:
        feed = find_feed(name)
        names = list(feed.channel_by_any_name)
        assert rules_of(feed.public_config(), names) == {each: str(feed.sequence_rule(each)) for each in names}

    def test_anything_may_be_in_a_file(self) -> None:
        assert rules_of({"channels": {"a": None}}, ["a", "b"]) == {"a": "none", "b": "none"}
        assert rules_of({"channels": 7}, ["a"]) == {"a": "none"}
