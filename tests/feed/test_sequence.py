from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feed.conftest import read
from wsrec.feed.fields import FieldColumns, FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.message import INT64_MAX, INT64_MIN
from wsrec.feed.schema import SequenceRule
from wsrec.feed.sequence import SequenceChecker, SequenceGap

SPOT, USDM = find_feed("binance"), find_feed("binance-usdm")


def gaps(feed, messages, checker=None, conns=None):
    payloads = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    conns = np.array(conns or [0] * len(payloads), np.uint16)
    return (checker or SequenceChecker(feed)).check(conns, read(FieldReader(feed), payloads))


def message(name, **numbers):
    return {"stream": f"x@{name}", "data": {"s": "X", **numbers}}


class TestRules:
    def test_next_counts_what_is_missing(self):
        found = gaps(USDM, [message("trade", t=1), message("trade", t=5)])
        assert found == [SequenceGap(1, 0, "trade", "X", "next", 2, 5, 3)]

    def test_previous_cannot_count(self):
        found = gaps(USDM, [message("depth@0ms", u=9, pu=1), message("depth@0ms", u=12, pu=10)])
        assert found == [SequenceGap(1, 0, "depth@0ms", "X", "previous", 9, 10, None)]

    def test_touching_counts_what_is_missing(self):
        found = gaps(SPOT, [message("depth", U=1, u=3), message("depth", U=4, u=6), message("depth", U=9, u=9)])
        assert found == [SequenceGap(2, 0, "depth", "X", "touching", 7, 9, 2)]

    def test_increasing_allows_leaps_and_shows_disorder(self):
        found = gaps(USDM, [message("bookTicker", u=n) for n in (1, 50, 50)])
        assert found == [SequenceGap(2, 0, "bookTicker", "X", "increasing", 51, 50, None)]

    def test_numbers_that_start_again_are_reported_once(self):
        found = gaps(USDM, [message("trade", t=n) for n in (100, 1, 2, 3)])
        assert [(gap.index, gap.missing) for gap in found] == [(1, None)]

    def test_channels_without_a_rule_are_passed_over(self):
        assert gaps(SPOT, [message("ticker", u=5), message("ticker", u=1)]) == []

    def test_messages_without_their_numbers_are_passed_over(self):
        assert gaps(SPOT, [message("depth", U=1, u=3), message("depth"), message("depth", u=9)]) == []


class TestState:
    def test_is_kept_between_batches(self):
        checker = SequenceChecker(USDM)
        gaps(USDM, [message("trade", t=1)], checker)
        assert len(gaps(USDM, [message("trade", t=3)], checker)) == 1

    def test_is_by_connection_channel_and_symbol(self):
        other = {"stream": "y@trade", "data": {"s": "Y", "t": 50}}
        messages = [message("trade", t=1), other, message("aggTrade", a=70), message("trade", t=90)]
        assert gaps(USDM, messages, conns=[0, 0, 0, 1]) == []

    def test_reset_forgets_one_connection(self):
        checker = SequenceChecker(USDM)
        gaps(USDM, [message("trade", t=1)] * 2, checker, [0, 1])
        checker.reset(0)
        found = gaps(USDM, [message("trade", t=9)] * 2, checker, [0, 1])
        assert [gap.conn for gap in found] == [1]


class TestRecordings:
    def test_whole_recording_has_no_gap(self, usdm_recording):
        assert gaps(USDM, usdm_recording) == []

    def test_whole_session_has_no_gap(self, spot_session):
        assert gaps(SPOT, spot_session) == []

    @pytest.mark.parametrize(("name", "counts"), [(b"@trade", True), (b"@depth", False)])
    def test_each_deleted_message_is_found(self, usdm_recording, name, counts):
        messages = usdm_recording[:20_000]
        places = [i for i, text in enumerate(messages) if name in text[:40]]
        deleted = set(places[10:300:7])
        kept = [i for i in range(len(messages)) if i not in deleted]
        found = gaps(USDM, [messages[i] for i in kept])
        # The message that shows a gap is the next one on its channel.
        assert [kept[gap.index] for gap in found] == [places[n + 1] for n in range(10, 300, 7)]
        assert all(gap.missing == (1 if counts else None) for gap in found)

    def test_deleted_ranges_of_the_spot_book_are_counted(self, spot_session):
        messages = spot_session
        book = [i for i, text in enumerate(messages) if b'"nknusdt@depth' in text]
        (gap,) = gaps(SPOT, [text for i, text in enumerate(messages) if i not in book[20:23]])
        first, last = (json.loads(messages[book[n]])["data"] for n in (20, 22))
        assert gap.missing == last["u"] - first["U"] + 1


class PlainChecker:
    """The rules as a loop over the messages: what is right."""

    def __init__(self, feed):
        self._rules = {name: channel.sequence for name, channel in feed.channel_by_any_name.items()}
        self._last = {}

    def check(self, conns, columns):
        gaps = []
        values = zip(conns.tolist(), *(column.to_pylist() for column in columns), strict=True)
        for index, (conn, channel, symbol, _, seq, first, previous) in enumerate(values):
            rule = self._rules.get(channel, SequenceRule.NONE)
            if rule is SequenceRule.NONE or seq is None:
                continue
            last = self._last.get((conn, channel, symbol))
            self._last[conn, channel, symbol] = seq
            if last is None:
                continue
            found, expected = seq, last + 1
            if rule is SequenceRule.INCREASING:
                if seq > last:
                    continue
            elif rule is SequenceRule.TOUCHING:
                found = first
            elif rule is SequenceRule.PREVIOUS:
                found, expected = previous, last
            if found is None or found == expected:
                continue
            counted = rule in (SequenceRule.NEXT, SequenceRule.TOUCHING) and found > expected
            missing = found - expected if counted else None
            gaps.append(SequenceGap(index, conn, channel, symbol, rule, expected, found, missing))
        return gaps

    def reset(self, conn):
        self._last = {key: seq for key, seq in self._last.items() if key[0] != conn}


NUMBERS = st.none() | st.integers(0, 6) | st.sampled_from([INT64_MIN, INT64_MIN + 1, -1, INT64_MAX - 1, INT64_MAX])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 65535]),
        st.none() | st.sampled_from(["trade", "bookTicker", "depth", "depth@0ms", "depthUpdate", "ticker", "unheard"]),
        st.none() | st.sampled_from(["A", "B", "C"]),
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
    max_size=40,
)


def batch(rows, names=()):
    """Rows as columns, with dictionaries that begin with `names`."""
    conns, channels, symbols, *numbers = zip(*rows, strict=True) if rows else ((),) * 6

    def encoded(values):
        known = list(dict.fromkeys([*names, *filter(None, values)]))
        codes = pa.array([None if value is None else known.index(value) for value in values], pa.int32())
        return pa.DictionaryArray.from_arrays(codes, pa.array(known, pa.string()))

    seq, first, previous = (pa.array(values, pa.int64()) for values in numbers)
    time = pa.nulls(len(rows), pa.int64())
    columns = FieldColumns(encoded(channels), encoded(symbols), time, seq, first, previous)
    return np.array(conns, np.uint16), columns


class TestSameAsALoop:
    @settings(deadline=None)
    @given(
        batches=st.lists(
            st.tuples(
                ROWS,
                st.sampled_from([(), ("C", "ticker"), ("trade", "A", "depth")]),
                st.none() | st.sampled_from([0, 65535]),
                st.integers(0, 3),
            ),
            max_size=4,
        )
    )
    @pytest.mark.parametrize("feed", [SPOT, USDM], ids=["spot", "usdm"])
    def test_any_messages(self, feed, batches):
        checker, plain = SequenceChecker(feed), PlainChecker(feed)
        for rows, names, reset, skipped in batches:
            conns, columns = batch(rows, names)
            conns, columns = conns[skipped:], FieldColumns._make(column[skipped:] for column in columns)
            assert checker.check(conns, columns) == plain.check(conns, columns)
            if reset is not None:
                checker.reset(reset)
                plain.reset(reset)

    def test_many_symbols_on_many_connections(self):
        random = np.random.default_rng(1)
        checker, plain = SequenceChecker(USDM), PlainChecker(USDM)
        seqs: dict[int, int] = {}
        for size in (10, 3000, 5000):
            rows = []
            for who in random.integers(0, 700, size).tolist():
                seqs[who] = seqs.get(who, 0) + (2 if random.random() < 0.01 else 1)
                rows.append((who * 90, "trade", f"S{who % 300}", seqs[who], None, None))
            found = checker.check(*batch(rows))
            assert found == plain.check(*batch(rows))
        assert len(found) > 10

    def test_endless_symbols_are_forgotten(self, monkeypatch):
        monkeypatch.setattr("wsrec.feed.sequence._KNOWN_MAX", 10)
        checker = SequenceChecker(USDM)
        for start in range(0, 100, 5):
            rows = [(0, "trade", f"S{n}", 1, None, None) for n in range(start, start + 5)]
            assert checker.check(*batch(rows)) == []
        assert len(checker._keys) <= 20


def test_speed(usdm_recording):
    """Shows the figure of SequenceChecker's docstring (`-k speed -s`); fails only on a gross change."""
    reader = FieldReader(USDM)
    batches = [read(reader, usdm_recording[start : start + 4000]) for start in range(0, len(usdm_recording), 4000)]
    conns = np.zeros(4000, np.uint16)
    best = float("inf")
    for _ in range(7):
        checker = SequenceChecker(USDM)
        start = time.process_time_ns()
        for columns in batches:
            checker.check(conns[: len(columns.channel)], columns)
        best = min(best, (time.process_time_ns() - start) / len(usdm_recording))
    print(f"SequenceChecker: {best:.0f} ns a message")
    assert best < 5_000
