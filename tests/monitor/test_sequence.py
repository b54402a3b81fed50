from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real_messages import read
from wsrec.decode.columns import FieldColumns
from wsrec.decode.implementation import FieldReader
from wsrec.decode.scalars import INT64_MAX, INT64_MIN, UINT64_MAX
from wsrec.feed.channel import Channel
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import ConnectionSequence, Resets, SequenceRule, SequenceScope
from wsrec.monitor.comparison import Link
from wsrec.monitor.sequence import SequenceChecker
from wsrec.monitor.sequence_gap import Break, Checked, SequenceGap

SPOT, USDM = find_feed("binance"), find_feed("binance-usdm")


def gaps(feed, messages, checker=None, conns=None):
    payloads = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    conns = np.array(conns or [0] * len(payloads), np.uint16)
    return (checker or SequenceChecker(feed)).check(conns, read(FieldReader(feed), payloads)).gaps


def message(name, **numbers):
    return {"stream": f"x@{name}", "data": {"s": "X", **numbers}}


class TestRules:
    def test_next_counts_what_is_missing(self):
        found = gaps(USDM, [message("trade", t=1), message("trade", t=5)])
        assert found == [SequenceGap(1, 0, "trade", "X", "next", 2, 5, 3, "missing")]

    def test_previous_cannot_count(self):
        found = gaps(USDM, [message("depth@0ms", u=9, pu=1), message("depth@0ms", u=12, pu=10)])
        assert found == [SequenceGap(1, 0, "depth@0ms", "X", "previous", 9, 10, None, "missing")]

    def test_touching_counts_what_is_missing(self):
        found = gaps(SPOT, [message("depth", U=1, u=3), message("depth", U=4, u=6), message("depth", U=9, u=9)])
        assert found == [SequenceGap(2, 0, "depth", "X", "touching", 7, 9, 2, "missing")]

    def test_increasing_allows_leaps_and_shows_disorder(self):
        found = gaps(USDM, [message("bookTicker", u=n) for n in (1, 50, 50)])
        assert found == [SequenceGap(2, 0, "bookTicker", "X", "increasing", 51, 50, None, "repeated")]

    def test_numbers_that_start_again_are_reported_once(self):
        found = gaps(USDM, [message("trade", t=n) for n in (100, 1, 2, 3)])
        assert [(gap.index, gap.missing) for gap in found] == [(1, None)]

    def test_channels_without_a_rule_are_passed_over(self):
        assert gaps(SPOT, [message("ticker", u=5), message("ticker", u=1)]) == []

    def test_messages_without_their_numbers_are_passed_over(self):
        assert gaps(SPOT, [message("depth", U=1, u=3), message("depth"), message("depth", u=9)]) == []


def feed_of(connection=None, **channel):
    """A feed of one channel whose messages are ``{"c": channel, "s": symbol, "n": number, ...}``."""
    channels = {"book": {"topic": "book", "exchange_seq": ["n"], "seq_first": ["f"], **channel}} if channel else {}
    described = {
        "name": "numbers",
        "description": "",
        "sockets": {"main": {"url": "ws://x"}},
        "subscribe": {"message": "{topics}", "batch": 1},
        "limits": {"streams_per_connection": 1, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
        "fields": {"channel": ["c"], "symbol": ["s"]},
        "channels": channels,
        "sequence": connection,
    }
    return Feed.model_validate(described)


def numbered(*numbers, **more):
    return [{"c": "book", "s": "X", "n": number, **more} for number in numbers]


def reported(found):
    return [(gap.index, gap.what, gap.missing) for gap in found]


class TestHowItIsBroken:
    def test_repeated_and_going_back_are_not_loss(self):
        found = gaps(feed_of(sequence="next"), numbered(4, 4, 9, 2, 3))
        assert reported(found) == [(1, "repeated", None), (2, "missing", 4), (3, "back", None)]

    def test_a_predecessor_that_never_came_is_missing_and_an_older_one_is_not(self):
        feed = feed_of(sequence="previous", seq_previous=["p"])
        messages = [{"c": "book", "n": n, "p": p} for n, p in [(5, 4), (9, 7), (12, 5), (12, 9), (13, 12)]]
        assert reported(gaps(feed, messages)) == [(1, "missing", None), (2, "back", None), (3, "repeated", None)]

    def test_repeats_may_be_legal(self):
        assert gaps(feed_of(sequence="increasing", repeats=True), numbered(4, 4, 5, 5)) == []
        assert reported(gaps(feed_of(sequence="next", repeats=True), numbered(4, 4, 6))) == [(2, "missing", 1)]


class TestOverlap:
    def ranges(self, *ranges):
        return [{"c": "book", "s": "X", "f": first, "n": last} for first, last in ranges]

    def test_ranges_that_go_on_are_no_gap(self):
        feed = feed_of(sequence="touching", overlap=True)
        assert gaps(feed, self.ranges((1, 3), (2, 5), (6, 6), (1, 7))) == []

    def test_a_hole_is_counted_and_an_old_range_is_reported(self):
        feed = feed_of(sequence="touching", overlap=True)
        found = gaps(feed, self.ranges((1, 3), (6, 8), (2, 8), (2, 4)))
        assert reported(found) == [(1, "missing", 2), (2, "repeated", None), (3, "back", None)]

    def test_without_it_ranges_have_to_touch(self):
        found = gaps(feed_of(sequence="touching"), self.ranges((1, 3), (2, 5)))
        assert reported(found) == [(1, "back", None)]


class TestResets:
    def test_a_start_value_begins_anew(self):
        feed = feed_of(sequence="next", resets={"numbers": [0, 1]})
        assert reported(gaps(feed, numbered(7, 8, 1, 2, 0, 1, 5))) == [
            (2, "reset", None),
            (4, "reset", None),
            (6, "missing", 3),
        ]

    def test_a_snapshot_restarts_the_numbers_and_is_reported_where_the_rule_would_be_broken(self):
        feed = feed_of(sequence="next", resets={"messages": [{"path": "type", "match": "snapshot"}]})
        messages = numbered(7) + numbered(3, 4, type="snapshot") + numbered(5) + numbered(8, type="delta")
        assert reported(gaps(feed, messages)) == [(1, "reset", None), (4, "missing", 2)]

    def test_one_that_replaces_the_book_and_names_nothing_before_it_is_reported(self):
        """Gate's `full`: it has no first number, so what was skipped before it cannot be counted."""
        resets = {"messages": [{"path": "full", "match": True}]}
        feed = feed_of(sequence="touching", resets=resets)
        messages = [
            {"c": "book", "s": "X", "n": 10, "full": True},
            {"c": "book", "s": "X", "f": 11, "n": 12},
            {"c": "book", "s": "X", "n": 62, "full": True},
            {"c": "book", "s": "X", "f": 63, "n": 64, "full": False},
            {"c": "book", "s": "X", "f": 66, "n": 66},
        ]
        found = gaps(feed, messages)
        assert reported(found) == [(2, "reset", None), (4, "missing", 1)]
        assert (found[0].expected, found[0].found) == (13, 62)

    def test_after_the_number_before_the_first_one_means_none(self):
        """As OKX, whose snapshot says -1 for what was before it."""
        feed = feed_of(sequence="previous", seq_previous=["p"], resets={"numbers": [-1]})
        messages = [{"c": "book", "n": n, "p": p} for n, p in [(5, -1), (9, 5), (20, -1), (21, 19)]]
        found = gaps(feed, messages)
        assert [(gap.index, gap.what, gap.found) for gap in found] == [(2, "reset", -1), (3, "back", 19)]


class TestWholeRange:
    """Numbers of 64 bits unsigned, as many exchanges have them in their own code."""

    BEYOND = (1 << 63) - 2

    def test_next_goes_on_past_the_largest_signed_number(self):
        feed = feed_of(sequence="next")
        numbers = [self.BEYOND + n for n in (0, 1, 2, 3, 7)]
        assert reported(gaps(feed, numbered(*numbers))) == [(4, "missing", 3)]

    def test_numbers_in_quotes_and_with_a_fraction_of_nothing_are_the_same(self):
        feed = feed_of(sequence="next")
        payloads = [b'{"c":"book","s":"X","n":%b}' % n for n in (b'"18446744073709551613"', b"18446744073709551614.0")]
        assert gaps(feed, payloads) == []
        assert reported(gaps(feed, [*payloads[:1], b'{"c":"book","s":"X","n":18446744073709551615}'])) == [
            (1, "missing", 1)
        ]

    @pytest.mark.parametrize(("rule", "operand"), [("touching", "seq_first"), ("previous", "seq_previous")])
    def test_the_other_rules_too(self, rule, operand):
        feed = feed_of(sequence=rule, **{operand: ["f"]})
        step = 1 if rule == "touching" else 0
        ends = [self.BEYOND + 10 * n for n in range(4)]
        messages = [
            {"c": "book", "s": "X", "f": before + step, "n": end}
            for before, end in zip([self.BEYOND - 5, *ends], ends, strict=False)
        ]
        assert gaps(feed, messages) == []
        messages[2]["f"] += 2
        (gap,) = gaps(feed, messages)
        assert (gap.index, gap.what, gap.expected, gap.found) == (2, "missing", ends[1] + step, ends[1] + step + 2)

    def test_after_the_largest_number_there_is_none(self):
        assert reported(gaps(feed_of(sequence="next"), numbered(UINT64_MAX, 0, 1))) == [(1, "back", None)]


class TestScope:
    def test_of_a_channel_all_symbols_together(self):
        messages = [{"c": "book", "s": symbol, "n": n} for symbol, n in [("X", 1), ("Y", 2), (None, 3), ("X", 6)]]
        (gap,) = gaps(feed_of(sequence="next", sequence_scope="channel"), messages)
        assert (gap.index, gap.channel, gap.symbol, gap.missing, gap.scope) == (3, "book", None, 2, "channel")

    def test_of_a_connection_all_messages_together(self):
        feed = feed_of(connection={"exchange_seq": ["n"], "resets": {"numbers": [0]}})
        messages = [
            {"c": "book", "n": 5},
            {"c": "heartbeat", "n": 6},
            {"n": 7},
            {"result": None},
            {"c": "trade", "s": "X", "n": 8},
            {"c": "book", "n": 10},
            {"c": "subscriptions", "n": 0},
        ]
        missing, reset = gaps(feed, messages)
        assert (missing.index, missing.channel, missing.symbol, missing.missing) == (5, None, None, 1)
        assert (missing.scope, reset.index, reset.what) == ("connection", 6, "reset")

    def test_each_connection_counts_for_itself(self):
        feed = feed_of(connection={"exchange_seq": ["n"]})
        assert gaps(feed, [{"n": 1}, {"n": 9}, {"n": 2}, {"n": 10}], conns=[0, 1, 0, 1]) == []


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


@pytest.fixture(scope="module")
def usdm_columns(usdm_recording):
    """The fields of the whole recording, read once."""
    return read(FieldReader(USDM), usdm_recording)


def check_places(checker, columns, places):
    """Check the messages at some places of the columns."""
    part = FieldColumns._make(column.take(pa.array(places)) for column in columns)
    return checker.check(np.zeros(len(places), np.uint16), part).gaps


class TestRecordings:
    def test_whole_recording_has_no_gap(self, usdm_columns):
        assert check_places(SequenceChecker(USDM), usdm_columns, range(len(usdm_columns.channel))) == []

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

    @pytest.mark.parametrize("seed", range(5))
    def test_each_message_lost_at_random_is_found_and_nothing_else(self, usdm_recording, usdm_columns, seed):
        """What must be found is worked out from the removed messages alone."""
        removed = set(np.random.default_rng(seed).choice(len(usdm_recording), 100, replace=False).tolist())
        kept = [place for place in range(len(usdm_recording)) if place not in removed]
        expected = expected_gaps(usdm_recording, removed)
        batches = [kept[start : start + 4000] for start in range(0, len(kept), 4000)]
        checker, found = SequenceChecker(USDM), []
        for batch in batches:
            for gap in check_places(checker, usdm_columns, batch):
                found.append((batch[gap.index], gap.channel, gap.symbol, gap.expected, gap.found, gap.missing))
                assert gap.what is Break.MISSING
        assert found == [gap for gap, _ in expected]
        lost = sum(count for _, count in expected)
        print(f"seed {seed}: {len(found)} gaps for {lost} lost trades and book changes, 100 removed")
        assert lost > 10

    def test_deleted_ranges_of_the_spot_book_are_counted(self, spot_session):
        messages = spot_session
        book = [i for i, text in enumerate(messages) if b'"nknusdt@depth' in text]
        (gap,) = gaps(SPOT, [text for i, text in enumerate(messages) if i not in book[20:23]])
        first, last = (json.loads(messages[book[n]])["data"] for n in (20, 22))
        assert gap.missing == last["u"] - first["U"] + 1


def expected_gaps(messages, removed):
    """The gaps that removed messages of the recording must show as, and how many were removed before each.

    Trades are numbered without a hole, and a book change names the one before it. The best prices (`increasing`) do not
    show loss, and neither does the first or last message of a stream.
    """
    streams = {"trade": [], "depth@0ms": []}
    for place, text in enumerate(messages):
        channel = text[: text.index(b",")].rpartition(b"btcusdt@")[2].rstrip(b'"').decode()
        if channel in streams:
            streams[channel].append(place)
    found = []
    for channel, places in streams.items():
        before, lost = None, 0
        for place in places:
            if place in removed:
                lost += 1
                continue
            if before is not None and lost:
                last, data = (json.loads(messages[at])["data"] for at in (before, place))
                bounds = (last["t"] + 1, data["t"], lost) if channel == "trade" else (last["u"], data["pu"], None)
                found.append(((place, channel, "BTCUSDT", *bounds), lost))
            before, lost = place, 0
    return sorted(found)


class PlainChecker:
    """The rules as a loop over the messages: what is right."""

    def __init__(self, feed):
        self._feed = feed
        self._last = {}
        # of each succession: whether its last message had a number, and its run
        self._whole, self._run = {}, {}
        self._runs = 0
        self._names = {}

    def check(self, conns, columns):
        gaps, links, runs = [], [], []
        values = zip(conns.tolist(), *(column.to_pylist() for column in columns), strict=True)
        for index, (conn, channel, symbol, _, seq, first, previous, fresh) in enumerate(values):
            about, counted = self._feed.channel_by_any_name.get(channel), self._feed.sequence
            rule = self._feed.sequence_rule(channel)
            links.append(Link.NONE)
            runs.append(0)
            if rule is SequenceRule.NONE or (counted and seq is None and channel is None):
                continue
            scope = "connection" if counted else about.sequence_scope
            channel = None if scope == "connection" else channel
            symbol = symbol if scope == "symbol" else None
            key = (conn, channel, symbol)
            if seq is None:
                links[-1] = Link.UNNUMBERED
                if key in self._last:
                    self._whole[key] = False
                continue
            last, whole = self._last.get(key), self._whole.get(key, True)
            self._last[key], self._whole[key] = seq, True
            runs[-1] = self._run.get(key, 0)
            links[-1] = Link.COMPARED if whole else Link.AFTER_UNNUMBERED
            lacks = {SequenceRule.TOUCHING: first, SequenceRule.PREVIOUS: previous}.get(rule, seq) is None
            if last is None:
                links[-1] = Link.FIRST
            elif lacks:
                links[-1] = Link.RESET if fresh else Link.UNLINKED
            if links[-1] is not Link.COMPARED:
                runs[-1] = self._next_run(key)
            if last is not None and lacks and fresh:
                # it begins anew, and names nothing that could be held against what was before
                expected = last if rule is SequenceRule.PREVIOUS else last + 1
                gaps.append(
                    SequenceGap(
                        index, conn, channel, symbol, rule, expected, seq, None, Break.RESET, SequenceScope(scope)
                    )
                )
                continue
            if last is None or (about and about.repeats and seq == last):
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
            if about and about.overlap and found <= expected <= seq:
                continue
            what = Break.MISSING if found > expected else Break.REPEATED if seq == last else Break.BACK
            resets = counted.resets if counted else about.resets
            if fresh or (resets and found in resets.numbers):
                what = Break.RESET
            links[-1] = Link.RESET if what is Break.RESET else Link.COMPARED
            runs[-1] = self._next_run(key)
            counts = rule in (SequenceRule.NEXT, SequenceRule.TOUCHING) and what is Break.MISSING
            missing = found - expected if counts else None
            gaps.append(
                SequenceGap(index, conn, channel, symbol, rule, expected, found, missing, what, SequenceScope(scope))
            )
        return Checked(gaps, links, runs)

    def _next_run(self, key):
        self._runs += 1
        self._run[key] = self._runs
        return self._runs

    def same_runs(self, found, expected):
        """Whether these are the same runs, whatever their numbers."""
        return all(
            (one == 0) == (other == 0) and self._names.setdefault(one, other) == other
            for one, other in zip(found, expected, strict=True)
        )

    def reset(self, conn):
        for of in (self._last, self._whole, self._run):
            for key in [key for key in of if key[0] == conn]:
                del of[key]


LARGE = [INT64_MAX - 1, INT64_MAX, INT64_MAX + 1, INT64_MAX + 2, UINT64_MAX - 1, UINT64_MAX]
NUMBERS = st.none() | st.integers(0, 6) | st.sampled_from(LARGE)
SIGNED = NUMBERS | st.sampled_from([INT64_MIN, INT64_MIN + 1, -1])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 65535]),
        st.none() | st.sampled_from(["trade", "bookTicker", "depth", "depth@0ms", "depthUpdate", "ticker", "unheard"]),
        st.none() | st.sampled_from(["A", "B", "C"]),
        NUMBERS,
        SIGNED,
        SIGNED,
        st.booleans(),
    ),
    max_size=40,
)


def batch(rows, names=()):
    """Rows as columns, with dictionaries that begin with `names`."""
    conns, channels, symbols, *numbers, fresh = zip(*rows, strict=True) if rows else ((),) * 7

    def encoded(values):
        known = list(dict.fromkeys([*names, *filter(None, values)]))
        codes = pa.array([None if value is None else known.index(value) for value in values], pa.int32())
        return pa.DictionaryArray.from_arrays(codes, pa.array(known, pa.string()))

    kinds = (pa.uint64(), pa.decimal128(20), pa.decimal128(20))
    seq, first, previous = (pa.array(values, kind) for values, kind in zip(numbers, kinds, strict=True))
    time = pa.nulls(len(rows), pa.int64())
    resets = pa.array(fresh, pa.bool_())
    columns = FieldColumns(encoded(channels), encoded(symbols), time, seq, first, previous, resets)
    return np.array(conns, np.uint16), columns


# every combination of what a channel may say of its numbers, over the rules
MIXED = SPOT.model_copy(
    update={
        "channels": {
            name: Channel(
                topic=name,
                exchange_seq=("u",),
                seq_first=("U",),
                seq_previous=("pu",),
                sequence=rule,
                sequence_scope=scope,
                overlap=rule == "touching" and scope == "channel",
                repeats=repeats,
                resets=Resets(numbers=(0, 5)),
            )
            for name, rule, scope, repeats in [
                ("trade", "next", "channel", True),
                ("bookTicker", "increasing", "symbol", True),
                ("depth", "touching", "channel", False),
                ("depth@0ms", "previous", "symbol", True),
                ("depthUpdate", "previous", "channel", False),
                ("ticker", "next", "symbol", False),
            ]
        }
    }
)
WHOLE = SPOT.model_copy(
    update={"channels": {}, "sequence": ConnectionSequence(exchange_seq=("u",), resets=Resets(numbers=(0,)))}
)


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
    @pytest.mark.parametrize("feed", [SPOT, USDM, MIXED, WHOLE], ids=["spot", "usdm", "mixed", "whole"])
    def test_any_messages(self, feed, batches):
        checker, plain = SequenceChecker(feed, runs=True), PlainChecker(feed)
        for rows, names, reset, skipped in batches:
            conns, columns = batch(rows, names)
            conns, columns = conns[skipped:], FieldColumns._make(column[skipped:] for column in columns)
            found, expected = checker.check(conns, columns), plain.check(conns, columns)
            assert found.gaps == expected.gaps
            assert found.links.tolist() == expected.links
            assert plain.same_runs(found.runs.tolist(), expected.runs)
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
                rows.append((who * 90, "trade", f"S{who % 300}", seqs[who], None, None, False))
            found = checker.check(*batch(rows)).gaps
            assert found == plain.check(*batch(rows)).gaps
        assert len(found) > 10

    def test_endless_symbols_are_forgotten(self, monkeypatch):
        monkeypatch.setattr("wsrec.monitor.sequence._KNOWN_MAX", 10)
        checker = SequenceChecker(USDM)
        for start in range(0, 100, 5):
            rows = [(0, "trade", f"S{n}", 1, None, None, False) for n in range(start, start + 5)]
            assert checker.check(*batch(rows)).gaps == []
        assert len(checker._streams) <= 20


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
