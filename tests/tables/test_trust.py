"""wsrec.tables.trust: the state of rows, from the events of their session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables.events import UTC, connections, event, event_batch, feed, message, message_batch, session
from wsrec.feed.table_columns import STATES
from wsrec.tables.file_rows import FileRows
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.trust import Trust


def words(codes: Any) -> list[str]:
    return [STATES[code] for code in codes]


def states(of: SessionEvents, messages: Sequence[dict[str, Any]], *, cut: int | None = None) -> list[str]:
    trust = Trust(of)
    trust.begin_file(1)
    parts = [messages] if cut is None else [messages[:cut], messages[cut:]]
    return [word for part in parts for word in words(trust.states(message_batch(part)))]


def books(of: SessionEvents, messages: Sequence[dict[str, Any]], snapshots: Sequence[int] = ()) -> list[str]:
    trust = Trust(of, in_band=["book"])
    trust.begin_file(1)
    flags = np.array([n in snapshots for n in range(len(messages))])
    return words(trust.book_states(message_batch(messages), flags))


class TestRules:
    def test_only_a_rule_that_compares_successions_makes_rows_ok(self) -> None:
        rows = [message(n, channel) for n, channel in enumerate(("trade", "bbo", "up", "book", "unknown"))]
        assert states(session(), rows) == ["ok", "unproved", "unproved", "ok", "unproved"]

    def test_a_message_without_a_number_and_the_one_after_it_are_unproved(self) -> None:
        rows = [message(n) | ({"exchange_seq": None} if n == 2 else {}) for n in range(5)]
        for cut in range(5):
            assert states(session(), rows, cut=cut) == ["ok", "ok", "unproved", "unproved", "ok"]

    def test_a_channel_whose_messages_lack_what_the_rule_compares_is_unproved_in_that_file(self) -> None:
        skipped = {"without the number that the rule compares": 2}
        of = session(event(9, "unchecked", None, channel="book", compared=3, skipped=skipped))
        trust = Trust(of)
        rows = message_batch([message(1, "book"), message(2)])
        trust.begin_file(1)
        assert words(trust.states(rows)) == ["unproved", "ok"]
        trust.begin_file(2)
        assert words(trust.states(rows)) == ["ok", "ok"]

    def test_numbers_of_a_connection_prove_every_channel(self) -> None:
        of = feed(sequence={"exchange_seq": ["n"]}, channels={"bbo": {"topic": "bbo.{symbol}"}})
        assert states(session(of=of), [message(1, "bbo"), message(2, "other")]) == ["ok", "ok"]


def test_no_messages_have_no_states() -> None:
    gap = event(4, "gap", channel="trade", symbol="A", what="missing", rule="next", seq=4)
    assert states(session(gap), []) == []
    assert books(session(gap), []) == []


class TestBreaks:
    def test_a_gap_makes_the_row_after_it_suspect_and_no_other_stream(self) -> None:
        rows = [message(n, symbol="AB"[n % 2]) for n in range(8)]
        gap = event(4, "gap", channel="trade", symbol="A", what="missing", rule="next", seq=4, missing=2)
        assert states(session(gap), rows) == ["ok"] * 4 + ["suspect"] + ["ok"] * 3

    def test_a_gap_in_the_numbers_of_a_channel_concerns_each_of_its_streams(self) -> None:
        rows = [message(n, symbol="AB"[n % 2]) for n in range(8)] + [message(8, "book")]
        gap = event(4, "gap", channel="trade", what="missing", rule="next", scope="channel", seq=4)
        for cut in range(8):
            assert states(session(gap), rows, cut=cut) == ["ok"] * 4 + ["suspect"] * 2 + ["ok"] * 3

    def test_after_a_lost_interval_the_first_row_of_each_stream_is_suspect_also_on_the_other_connection(self) -> None:
        lost = event(12, "lost_interval", 0, monotonic_from=5, monotonic_to=10, reason="not connected")
        rows = [message(n, symbol=s, conn=c) for n, s, c in ((3, "A", 0), (11, "A", 1), (12, "B", 1), (13, "A", 1))]
        assert states(session(lost, conns=2, turns=True), rows) == ["ok", "suspect", "suspect", "ok"]
        assert states(session(lost, conns=2), rows) == ["ok"] * 4

    def test_what_was_handed_off_within_a_lost_interval_is_suspect(self) -> None:
        lost = event(12, "lost_interval", None, monotonic_from=5, monotonic_to=10, slots=3)
        rows = [message(n) for n in (4, 6, 7, 11, 12)]
        assert states(session(lost), rows) == ["ok", "suspect", "suspect", "suspect", "ok"]

    def test_what_follows_a_restart_of_the_numbers_is_unproved(self) -> None:
        rows = [message(n, symbol="AB"[n % 2]) for n in range(6)]
        reset = event(2, "sequence_reset", channel="trade", rule="next", scope="channel", seq=2)
        for cut in range(6):
            assert states(session(reset), rows, cut=cut) == ["ok", "ok", "unproved", "unproved", "ok", "ok"]

    def test_a_close_in_order_loses_nothing(self) -> None:
        of = session(event(5, "disconnect", message="", received_bytes=9, discarded_bytes=0))
        assert states(of, [message(4), message(6)]) == ["ok", "ok"]

    def test_a_file_alone_gets_the_same_states_after_following_what_came_before(self) -> None:
        lost = event(12, "lost_interval", monotonic_from=5, monotonic_to=10)
        rows = [message(3), message(11), message(13), message(14, symbol="B")]
        of = session(lost)
        alone = Trust(of)
        assert alone.follow_from(2, 4) is None
        since = alone.follow_from(2, 13)
        assert since == (2, 5)
        alone.take(message_batch([row for row in rows[:2] if row["handoff_monotonic"] >= since.handoff]))
        alone.begin_file(2)
        assert words(alone.states(message_batch(rows[2:]))) == states(of, rows)[2:] == ["ok", "suspect"]


def in_files(trust: Trust, files: Sequence[FileRows], rows: Sequence[dict[str, Any]]) -> list[str]:
    """The states of rows whose files are read one after the other."""
    found = []
    for file in files:
        trust.begin_file(file.number)
        own = [row for row in rows if file.first_seq <= row["seq"] <= file.last_seq]
        found += words(trust.states(message_batch(own)))
    return found


def file(number: int, first: int, last: int, checked_from: int = 0) -> FileRows:
    return FileRows(number, first, last, UTC + first, UTC + last, checked_from)


class TestFiles:
    """What the files of a session say: which of them are there, and who checked their rows."""

    # the writer of file 3 took over, and knew only the numbers in file 2: of B, not of A
    RESUMED = (file(1, 0, 3), file(2, 4, 5), file(3, 6, 9, checked_from=2), file(4, 10, 12, checked_from=2))
    ROWS = tuple(message(n, symbol="AABABBAABBAAB"[n]) for n in range(13))

    def test_a_new_writer_compared_nothing_with_what_came_before_the_last_file_that_it_knows(self) -> None:
        trust = Trust(session(files=self.RESUMED))
        found = in_files(trust, self.RESUMED, self.ROWS)
        assert [n for n, state in enumerate(found) if state != "ok"] == [6]
        assert found[6] == "unproved"

    def test_a_file_alone_has_the_same_states(self) -> None:
        of = session(files=self.RESUMED)
        whole = in_files(Trust(of), self.RESUMED, self.ROWS)
        for number, each in enumerate(self.RESUMED):
            trust = Trust(of)
            since = trust.follow_from(each.number, each.first_seq)
            for earlier in self.RESUMED[:number] if since is not None else ():
                trust.begin_file(earlier.number)
                own = [row for row in self.ROWS if earlier.first_seq <= row["seq"] <= earlier.last_seq]
                trust.take(message_batch([row for row in own if earlier.number >= since.file]))
            assert in_files(trust, [each], self.ROWS) == whole[each.first_seq : each.last_seq + 1]

    def test_a_stream_of_a_connection_that_was_opened_later_has_nothing_before_it(self) -> None:
        opened = event(8, "connect", 1, url="u") | {"file": 3}
        rows = [message(n, conn=int(n > 7)) for n in range(10)]
        found = in_files(Trust(session(opened, files=self.RESUMED[:3], conns=2)), self.RESUMED[:3], rows)
        assert found == ["ok"] * 10

    def test_the_first_rows_of_a_connection_that_took_over_meanwhile_are_unproved(self) -> None:
        events = (
            event(5, "connect", 1, url="u") | {"file": 2},
            event(9, "replaced", 1, from_conn=0, to_conn=1, monotonic_from=5, monotonic_to=6) | {"file": 3},
        )
        rows = [message(n, conn=int(n in (5, 8))) for n in range(10)]
        of = session(*events, files=self.RESUMED[:3], conns=2, turns=True)
        assert in_files(Trust(of), self.RESUMED[:3], rows)[5] == "unproved"

    def test_rows_in_no_file_leave_the_first_of_each_stream_suspect_and_are_a_gap(self) -> None:
        files = (file(1, 0, 3), file(3, 6, 9)._replace(begin=6))
        of = session(files=files)
        assert in_files(Trust(of), files, [row for row in self.ROWS if row["seq"] not in (4, 5)]) == [
            *["ok"] * 4,
            *["suspect", "ok", "suspect", "ok"],
        ]
        (hole,) = of.breaks
        assert (hole.seq, hole.missing, hole.since, hole.until) == (6, 2, UTC + 3, UTC + 6)
        assert hole.detail == "the rows 4 to 5 are in no file that is here and can be read"

    def test_without_the_beginning_of_a_session_the_first_of_each_stream_is_unproved(self) -> None:
        files = (file(2, 4, 9),)
        found = in_files(Trust(session(files=files)), files, self.ROWS[4:10])
        assert found == ["unproved", "ok", "unproved", "ok", "ok", "ok"]

    def test_behind_a_file_without_its_events_the_first_of_each_stream_is_unproved(self) -> None:
        files = (file(1, 0, 3), file(2, 4, 9))
        of = SessionEvents(feed(), connections(), [(2, event_batch([]))], files)
        found = in_files(Trust(of), files, self.ROWS[:10])
        assert found == [*["unproved"] * 4, "unproved", "ok", "unproved", "ok", "ok", "ok"]

    def test_a_file_without_its_events_proves_nothing(self) -> None:
        files = (file(1, 0, 9),)
        of = SessionEvents(feed(), connections(), [], files)
        assert set(in_files(Trust(of), files, self.ROWS[:10])) == {"unproved"}


class TestBooks:
    CONNECT = event(1, "subscribe", request=1, topics=["book.A", "depth.A"])

    def test_rows_before_the_first_snapshot_are_suspect(self) -> None:
        rows = [message(n, "book") for n in range(2, 6)]
        assert books(session(self.CONNECT), rows, [2]) == ["suspect", "suspect", "ok", "ok"]

    @pytest.mark.parametrize(
        "broken",
        [
            event(4, "gap", channel="book", symbol="A", what="missing", rule="previous", seq=4),
            event(4, "gap", channel="book", symbol="A", what="missing", rule="checksum", seq=4),
            event(4, "disconnect", message="reset by peer", received_bytes=9),
            event(4, "disconnect", message="", received_bytes=9),
            event(5, "lost_interval", monotonic_from=4, monotonic_to=4),
        ],
    )
    def test_a_break_makes_rows_suspect_until_the_next_snapshot(self, broken: dict[str, Any]) -> None:
        rows = [message(n, "book") for n in range(2, 8)]
        assert books(session(self.CONNECT, broken), rows, [0, 4]) == ["ok", "ok", "suspect", "suspect", "ok", "ok"]

    def test_a_change_without_its_number_leaves_the_book_unproved_until_the_next_snapshot(self) -> None:
        rows = [message(n, "book") | ({"exchange_seq": None} if n == 4 else {}) for n in range(2, 8)]
        assert books(session(self.CONNECT), rows, [0, 4]) == ["ok", "ok", "unproved", "unproved", "ok", "ok"]

    def test_a_later_file_knows_that_there_were_such_changes_before_it(self) -> None:
        skipped = event(5, "unchecked", None, channel="book", compared=3, skipped={"without a number": 1})
        trust = Trust(session(self.CONNECT, skipped), in_band=["book"])
        trust.begin_file(2)
        rows = message_batch([message(n, "book") for n in (8, 9, 10)])
        assert words(trust.book_states(rows, np.array([False, False, True]))) == ["unproved", "unproved", "ok"]

    def test_a_snapshot_that_restarts_the_numbers_is_no_break(self) -> None:
        rows = [message(n, "book") for n in range(2, 6)]
        reset = event(4, "sequence_reset", channel="book", symbol="A", rule="previous", seq=4)
        assert books(session(self.CONNECT, reset), rows, [0, 2]) == ["ok"] * 4

    def test_a_later_file_begins_with_a_book_that_was_requested_after_its_last_break(self) -> None:
        gap = event(4, "gap", channel="book", symbol="A", what="missing", rule="previous", seq=4)
        again = event(5, "subscribe", request=1, topics=["book.A"], reason="gap")
        rows = message_batch([message(8, "book"), message(9, "book", symbol="B")])
        found = []
        for events in ((self.CONNECT,), (self.CONNECT, gap), (self.CONNECT, gap, again)):
            trust = Trust(session(*events), in_band=["book"])
            trust.begin_file(2)
            found.append(words(trust.book_states(rows, np.zeros(2, np.bool_))))
        assert found == [["unproved", "suspect"], ["suspect", "suspect"], ["unproved", "suspect"]]

    def test_a_fetched_snapshot_proves_what_is_above_its_number_from_the_begin_of_its_run(self) -> None:
        joined = event(6, "snapshot_joined", channel="depth", symbol="A", number=11, first=9, last=13)
        gap = event(8, "gap", channel="depth", symbol="A", what="missing", rule="touching", seq=8)
        rows = [message(n, "depth", number=n + 8) for n in (2, 3, 4)]
        rows += [message(5, "depth", number=11, direction="rest"), message(6, "depth", number=13)]
        rows += [message(8, "depth", number=20), message(9, "depth", number=21)]
        expected = ["suspect", "suspect", "ok", "ok", "ok", "suspect", "suspect"]
        assert books(session(self.CONNECT, joined, gap), rows) == expected

    def test_a_fetched_snapshot_that_does_not_join_is_suspect(self) -> None:
        missed = event(6, "snapshot_missed", channel="depth", symbol="A", number=3, why="it is older than the stream")
        rows = [message(4, "depth", number=10), message(5, "depth", number=3, direction="rest"), message(6, "depth")]
        assert books(session(self.CONNECT, missed), rows) == ["suspect"] * 3


class TestSecondCopies:
    EVENTS = (
        event(1, "subscribe", 0, request=1, topics=["trade.A", "bbo.A"]),
        event(2, "subscribe", 1, request=1, topics=["trade.A", "bbo.A"]),
        event(10, "replaced", 1, from_conn=0, to_conn=1, monotonic_from=3, monotonic_to=6),
        event(12, "disconnect", 0, message="", received_bytes=9),
    )

    def test_the_later_copy_of_a_number_is_history_on_whichever_connection_it_came(self) -> None:
        rows = [message(n, number=number, conn=conn) for n, number, conn in (
            (2, 1, 0), (4, 2, 0), (5, 2, 1), (7, 3, 1), (8, 3, 0), (9, 4, 1), (13, 5, 1), (14, 5, 1),
        )]  # fmt: skip
        for cut in range(8):
            found = states(session(*self.EVENTS, conns=2, turns=True), rows, cut=cut)
            assert [n for n, state in enumerate(found) if state == "history"] == [2, 4]

    def test_the_same_number_with_another_content_is_no_copy_but_unproved(self) -> None:
        rows = [message(n, number=2, conn=conn, text=text) for n, conn, text in ((4, 0, "old"), (5, 1, "new"))]
        assert states(session(*self.EVENTS, conns=2, turns=True), rows) == ["ok", "unproved"]

    def test_without_numbers_the_same_content_on_the_other_connection_is_a_copy(self) -> None:
        rows = [
            message(n, "bbo", conn=conn, text=text)
            for n, conn, text in ((4, 0, "a"), (5, 1, "a"), (6, 1, "a"), (7, 1, "b"), (8, 0, "b"), (9, 0, "c"))
        ]
        of = session(*self.EVENTS, conns=2, turns=True)
        for cut in range(6):
            assert [n for n, state in enumerate(states(of, rows, cut=cut)) if state == "history"] == [1, 4]

    def test_numbers_of_a_connection_are_no_part_of_the_content(self) -> None:
        of = feed(sequence={"exchange_seq": ["n"]}, channels={"bbo": {"topic": "bbo.{symbol}"}})
        rows = [message(n, "bbo", conn=conn, number=n, text=f"a{n}b") for n, conn in ((4, 0), (15, 1))]
        events = (*self.EVENTS[:-1], event(20, "disconnect", 0, message="", received_bytes=9))
        assert states(session(*events, of=of, conns=2, turns=True), rows) == ["ok", "history"]

    def test_without_its_payload_nothing_is_a_copy(self) -> None:
        rows = [message(n, number=2, conn=conn, text=None) for n, conn in ((4, 0), (5, 1))]
        assert states(session(*self.EVENTS, conns=2, turns=True), rows) == ["ok", "unproved"]

    def test_what_may_be_a_copy_by_its_time_alone_is_unproved(self) -> None:
        # only by its number the connection's messages are proved
        of = feed(sequence={"exchange_seq": ["n"]}, channels={"bbo": {"topic": "bbo.{symbol}"}})
        moments = ((4, 0), (5, 1), (7, 1), (8, 0), (13, 1))
        rows = [message(n, "bbo", conn=conn, number=n, text=f"{n} sent at {n}") for n, conn in moments]
        found = states(session(*self.EVENTS, of=of, conns=2, turns=True), rows)
        assert found == ["ok", "unproved", "ok", "unproved", "ok"]

    @pytest.mark.parametrize("kind", ["refused", "unanswered"])
    def test_where_the_old_connection_was_not_subscribed_nothing_is_a_copy(self, kind: str) -> None:
        rows = [message(n, "bbo", conn=1) for n in (4, 5, 7)]
        denied = event(3, kind, 0, request=1, topics=["bbo.A"])
        found = states(session(denied, *self.EVENTS, conns=2, turns=True), rows)
        assert found == ["suspect", "unproved", "unproved"]

    def test_an_old_connection_that_was_closed_before_has_its_next_life_apart(self) -> None:
        again = [
            event(9, "disconnect", 0, message="", received_bytes=9),
            event(11, "connect", 0, url="u"),
            *self.EVENTS,
        ]
        rows = [message(n, "bbo", conn=conn) for n, conn in ((4, 0), (7, 1), (11, 0), (14, 0))]
        found = states(session(*again[:-1], event(20, "disconnect", 0), conns=2, turns=True), rows)
        assert found == ["unproved"] * 4


@st.composite
def _sessions(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of two streams on two connections, every other moment, and breaks between."""
    moments = st.integers(0, 60)
    rows = [
        message(2 * n, symbol=draw(st.sampled_from("AB")), conn=draw(st.integers(0, 1)), seq=n)
        for n in range(draw(st.integers(1, 30)))
    ]
    events = []
    for _ in range(draw(st.integers(0, 4))):
        at, conn = 2 * draw(moments) + 1, draw(st.sampled_from([0, 1, None]))
        if draw(st.booleans()):
            events.append(event(at, "lost_interval", conn, monotonic_from=at, monotonic_to=at))
        else:
            row = draw(st.sampled_from(rows))
            about = {"channel": "trade", "symbol": draw(st.sampled_from([row["symbol"], None])), "seq": row["seq"]}
            events.append(event(row["handoff_monotonic"], "gap", row["conn"], rule="next", **about))
    return rows, events


@settings(max_examples=60, deadline=None)
@given(_sessions(), st.integers(0, 30), st.data())
def test_as_one_would_read_it_row_by_row(
    given: tuple[list[dict[str, Any]], list[dict[str, Any]]], cut: int, data: st.DataObject
) -> None:
    rows, events = given
    of = session(*events, conns=2)
    expected, pending = [], list[tuple[Any, set[tuple[int, str]]]]()
    left = list(of.breaks)
    for row in rows:
        for each in [b for b in left if (row["seq"] >= b.seq if b.seq is not None else row["seq"] * 2 > b.place)]:
            left.remove(each)
            pending.append((each, set()))
        stream, suspect = (row["conn"], row["symbol"]), False
        for each, done in pending:
            mine = (each.conn in (None, row["conn"])) and each.symbol in (None, row["symbol"])
            if mine and stream not in done:
                done.add(stream)
                suspect = True
        expected.append("suspect" if suspect else "ok")
    assert states(of, rows, cut=min(cut, len(rows))) == expected
