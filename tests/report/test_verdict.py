"""wsrec.report.verdict: no more is claimed than files, events and rules tell."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.capture_files import START, Capture, message_columns
from tests.pictures.made_up import pictures
from wsrec.feed.load import find_feed
from wsrec.format.layout import other
from wsrec.format.selection import Selection
from wsrec.pictures.model import Figures
from wsrec.pictures.tiles import tiles
from wsrec.report.collect import collect
from wsrec.report.facts import facts
from wsrec.report.model import Verdict
from wsrec.report.verdict import rules_of, verdict
from wsrec.ring.loss_evidence import INTERRUPTED

RULES = {"channels": {name: {"sequence": "next"} for name in ("trade", "depth", "bookTicker")}}
STARTED = {"time": START, "kind": "session_start"}
ENDED = {"time": START + 10**9, "kind": "session_end"}
LOST = {"time": START, "kind": "lost_interval", "detail": {"from": START, "to": START + 2_300_000_000}}


def judged(capture: Capture, **chosen: Any) -> Verdict:
    return collect([capture.out], selection=Selection(**chosen)).recordings[0].verdict


@cache
def figures() -> Figures:
    return pictures().figures[0]


def events_beside(path: Path) -> Path:
    beside = other(path)
    assert beside is not None
    return beside


class TestComplete:
    def test_needs_numbers_of_each_channel(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=RULES)
        assert judged(capture).state == "complete"

    @pytest.mark.parametrize("rule", ["increasing", "none"])
    def test_a_rule_that_shows_no_loss_proves_nothing(self, capture: Capture, rule: str) -> None:
        config = {"channels": {**RULES["channels"], "bookTicker": {"sequence": rule}}}
        capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=config)
        assert judged(capture) == Verdict(
            state="unproved",
            sentence="no loss known. Checked by sequence number: depth, trade. Not checkable: bookTicker",
            missing=[],
            unknown=["not checkable by sequence number: bookTicker"],
        )

    def test_what_is_not_known_comes_before_what_was_checked(self, capture: Capture) -> None:
        config = {"channels": {**RULES["channels"], "bookTicker": {"sequence": "none"}}}
        events = [STARTED, {"time": START, "kind": "disconnect"}, ENDED]
        capture.write(message_columns(30), gaps=0, events=events, feed_config=config)
        assert judged(capture).sentence == (
            "no loss known, but 1 disconnection. Checked by sequence number: depth, trade. Not checkable: bookTicker"
        )

    def test_without_any_number_all_channels_are_named(self, capture: Capture) -> None:
        capture.write(message_columns(30), events=[STARTED, ENDED], feed_config={"channels": {}})
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
        path = capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=RULES)
        path.with_name("20261122T130000Z-a1-000009.parquet").write_bytes(b"PAR1")
        assert judged(capture).unknown == ["1 file or folder could not be read"]

    def test_no_rows(self, capture: Capture) -> None:
        capture.write(message_columns(0), gaps=0, events=[STARTED], feed_config=RULES)
        assert (judged(capture).state, judged(capture).sentence) == ("unproved", "there are no rows")


class TestAbsentFiles:
    """Three files of a session; some of them are not there."""

    def write(self, capture: Capture) -> list[Path]:
        about: dict[str, Any] = {"gaps": 0, "feed_config": RULES}
        end = {**ENDED, "detail": {"messages": 90, "control": 0}}
        found = [
            capture.write(message_columns(30, first_seq=first), events=events, **about)
            for first, events in ((0, [STARTED]), (30, [{**STARTED, "kind": "anchor"}]), (60, [end]))
        ]
        assert judged(capture).state == "complete"
        return found

    def test_the_last_pair(self, capture: Capture) -> None:
        path = self.write(capture)[2]
        events_beside(path).unlink()
        path.unlink()
        assert judged(capture).state == "unproved"
        assert judged(capture).unknown == ["later files of a session are not in this report"]

    def test_the_last_message_file(self, capture: Capture) -> None:
        self.write(capture)[2].unlink()
        assert judged(capture).unknown == ["later files of a session are not in this report"]

    def test_all_but_the_first(self, capture: Capture) -> None:
        verdict = collect([self.write(capture)[0]]).recordings[0].verdict
        assert (verdict.state, verdict.unknown) == ("unproved", ["later files of a session are not in this report"])

    def test_events_within(self, capture: Capture) -> None:
        events_beside(self.write(capture)[1]).unlink()
        assert judged(capture).state == "unproved"
        assert judged(capture).unknown == ["no events file lies beside 1 message file"]

    def test_last_events(self, capture: Capture) -> None:
        events_beside(self.write(capture)[2]).unlink()
        assert judged(capture).unknown == [
            "no events file lies beside 1 message file",
            "later files of a session may not be in this report",
        ]

    def test_a_recovered_session_has_its_end(self, capture: Capture) -> None:
        lost = {**LOST, "detail": {**LOST["detail"], "reason": INTERRUPTED}}
        capture.write(message_columns(30), gaps=0, events=[STARTED, lost], feed_config=RULES)
        assert (judged(capture).state, judged(capture).unknown) == ("incomplete", [])


class TestUnfinished:
    @pytest.mark.parametrize(
        ("is_running", "words", "unknown"),
        [
            (True, "so far no loss", "a session is still being recorded"),
            (False, "no loss", "a session was interrupted and is not recovered"),
        ],
    )
    def test_is_not_complete(self, capture: Capture, is_running: bool, words: str, unknown: str) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=RULES)
        recording = collect([capture.out]).recordings[0]
        session = recording.sessions[0].session
        found = verdict(recording, is_part=False, unread=0, unfinished={session: is_running})
        assert (found.state, found.unknown) == ("unproved", [unknown])
        assert found.sentence.startswith(words)

    def test_of_another_session_says_nothing(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=RULES)
        recording = collect([capture.out]).recordings[0]
        assert verdict(recording, is_part=False, unread=0, unfinished={"another": True}).state == "complete"


class TestNothingSelected:
    def test_is_not_told_as_a_fact(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=RULES)
        selection = Selection(since=START + 10**9, until=START + 2 * 10**9)
        recording = collect([capture.out], selection=selection).recordings[0]
        assert (recording.rows, recording.verdict.state) == ({}, "unproved")
        assert recording.verdict.sentence == "nothing was selected"
        for details in (True, False):
            shown = [(name, str(text)) for name, text in facts(recording, details=details)]
            assert shown == [("rows", "nothing was selected")]
        assert [(tile.label, tile.value) for tile in tiles(recording, figures())] == [("Rows", "none")]


class TestGaps:
    """The words for gaps claim no more than the verdict."""

    @pytest.mark.parametrize(
        ("unnumbered", "words", "state"),
        [
            ((), "none by the feed's sequence rule", "good"),
            (("depth",), "none in 2 of 3 channels: no sequence number would show one in the others", "plain"),
            (tuple(RULES["channels"]), "unknown: no sequence number would show one in any channel", "plain"),
        ],
    )
    def test_are_those_of_numbered_channels(
        self, capture: Capture, unnumbered: tuple[str, ...], words: str, state: str
    ) -> None:
        config = {"channels": {**RULES["channels"], **{key: {"sequence": "none"} for key in unnumbered}}}
        capture.write(message_columns(30), gaps=0, events=[STARTED, ENDED], feed_config=config)
        recording = collect([capture.out]).recordings[0]
        assert str(dict(facts(recording, details=True))["gaps"]) == words
        tile = next(tile for tile in tiles(recording, figures()) if tile.label == "Gaps")
        assert (tile.value, tile.state) == (words.split(":")[0].split(" by")[0], state)


class TestIncomplete:
    def test_a_loss_that_only_the_message_file_counts(self, capture: Capture) -> None:
        counts = {"lost_intervals": 1, "refused": 2, "not_inflated": 1}
        capture.write(message_columns(30), gaps=0, events=[STARTED, LOST], feed_config=RULES, counts=counts)
        second = {"counts": counts, "gaps_checked": True, "feed_config": RULES}
        capture.write(message_columns(30, first_seq=30), **second)
        found = judged(capture)
        assert found.state == "incomplete"
        assert found.missing == [
            "2 lost intervals (at least 2.30 s)",
            "4 subscriptions refused, unanswered or late",
            "2 messages not inflated",
        ]
        assert found.unknown[0] == "no events file lies beside 1 message file"
        recording = collect([capture.out]).recordings[0]
        tile = next(tile for tile in tiles(recording, figures()) if tile.label == "Lost")
        assert (tile.value, tile.state) == ("unknown", "bad")
        shown = str(dict(facts(recording, details=False))["events"])
        assert "1 lost_interval that only the message files count" in shown

    def test_nothing_lost_is_unknown_without_all_events(self, capture: Capture) -> None:
        capture.write(message_columns(30), gaps=0, events=[STARTED], feed_config=RULES)
        capture.write(message_columns(30, first_seq=30), gaps=0, feed_config=RULES)
        recording = collect([capture.out]).recordings[0]
        tile = next(tile for tile in tiles(recording, figures()) if tile.label == "Lost")
        assert (tile.value, tile.state) == ("unknown", "warn")
        assert str(dict(facts(recording, details=False))["events"]) == "unknown: not all events files were read"

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
