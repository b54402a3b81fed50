"""Messages that are numbered early and arrive late: exactly what is missing is found."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SHARED_DATA
from tests.effort import examples
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.late_checker import LateChecker
from wsrec.monitor.sequence import SequenceChecker
from wsrec.monitor.sequence_gap import Break, Rows

SESSION = SHARED_DATA.parent / "cases" / "messages" / "dydx-20-removed.txt.gz"
WITHIN = 5


def feed_of(within: int = WITHIN) -> Feed:
    return Feed.model_validate(
        {
            "name": "numbers",
            "description": "",
            "sockets": {"main": {"url": "ws://x"}},
            "fields": {"channel": ["c"]},
            "sequence": {
                "exchange_seq": ["n"],
                "late": {"where": {"c": "answer"}, "within": within},
                "resets": {"numbers": [0]},
            },
        }
    )


def check(feed, payloads, sizes, conns=None, ends=True):
    """Every gap by connection: `(seq of the row that passed numbers over, what, expected, found, missing)`."""
    reader, checker = FieldReader(feed), SequenceChecker(feed)
    conns = np.array([0] * len(payloads) if conns is None else conns, np.uint16)
    found = []
    start = 0
    for size in [*sizes, len(payloads)]:
        stop = min(start + max(size, 1), len(payloads))
        if start == stop:
            break
        payload = pa.array(payloads[start:stop], pa.large_binary())
        columns = reader.read(payload, np.ones(stop - start, np.bool_))
        rows = Rows(start, np.arange(start, stop) * 10, payload)
        gaps = checker.check(conns[start:stop], columns, rows).gaps
        found += [(gap, start) for gap in gaps]
        assert all(0 <= gap.at < stop - start for gap in gaps)
        start = stop
    if ends:
        found += [(gap, 0) for conn in np.unique(conns).tolist() for gap in checker.reset(conn)]
    return [(gap.conn, gap.index + base, str(gap.what), gap.expected, gap.found, gap.missing) for gap, base in found]


def messages(pairs):
    return [json.dumps({"c": "answer" if late else "data", "n": number}).encode() for number, late in pairs]


class TestWhatIsMissing:
    def test_a_late_answer_fills_its_hole(self):
        assert check(feed_of(), messages([(1, 0), (2, 0), (4, 0), (3, 1), (5, 0)]), [2, 1]) == []

    def test_a_hole_that_nothing_fills_is_a_gap_of_the_message_that_passed_it_over(self):
        numbers = [(1, 0), (2, 0), (4, 0), *((n, 0) for n in range(5, 20))]
        assert check(feed_of(), messages(numbers), [1, 2, 3]) == [(0, 2, "missing", 3, 4, 1)]

    def test_what_is_open_when_the_connection_ends_is_missing(self):
        assert check(feed_of(), messages([(1, 0), (4, 0), (2, 1)]), []) == [(0, 1, "missing", 3, 4, 1)]

    def test_only_messages_that_are_named_may_be_late(self):
        assert check(feed_of(), messages([(1, 0), (3, 0), (2, 0), (4, 0)]), []) == [(0, 2, "back", 4, 2, None)]

    def test_an_answer_that_comes_too_late_is_reported(self):
        numbers = [(1, 0), (3, 0), *((n, 0) for n in range(4, 12)), (2, 1), (12, 0)]
        assert check(feed_of(), messages(numbers), []) == [(0, 1, "missing", 2, 3, 1), (0, 10, "back", 12, 2, None)]

    def test_numbers_that_begin_anew_leave_what_is_open_missing(self):
        assert check(feed_of(), messages([(7, 0), (9, 0), (0, 0), (1, 0)]), []) == [
            (0, 1, "missing", 8, 9, 1),
            (0, 2, "reset", 10, 0, None),
        ]

    def test_an_answer_before_the_first_known_number_is_not_reported(self):
        assert check(feed_of(), messages([(7, 0), (5, 1), (8, 0)]), []) == []

    def test_what_is_missing_was_due_since_the_number_before_it_came_whatever_came_late_meanwhile(self):
        payload = pa.array(messages([(3, 0), (4, 0), (2, 1), (6, 0)]), pa.large_binary())
        checker, conns = SequenceChecker(feed_of()), np.zeros(4, np.uint16)
        columns = FieldReader(feed_of()).read(payload, np.ones(4, np.bool_))
        checker.check(conns, columns, Rows(0, np.array([10, 20, 30, 40]), payload))
        assert [(gap.expected, gap.since) for gap in checker.reset(0)] == [(5, 20)]

    @pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 1, 1, 1], [3, 2], [4, 1]])
    @pytest.mark.parametrize(("first", "since"), [(0, 20), (1, 0)])
    def test_after_a_late_message_it_was_due_since_the_last_that_cannot_be_late(self, sizes, first, since):
        """A late message with the number before took it early: what is missing may have been sent before it arrived."""
        payload = pa.array(messages([(2, 1), (3, first), (4, 1), (5, 1), (7, 0)]), pa.large_binary())
        checker, reader, start = SequenceChecker(feed_of()), FieldReader(feed_of()), 0
        for size in sizes:
            part, conns = payload[start : start + size], np.zeros(size, np.uint16)
            columns = reader.read(part, np.ones(size, np.bool_))
            checker.check(conns, columns, Rows(start, 10 * np.arange(start + 1, start + size + 1), part))
            start += size
        assert [(gap.expected, gap.since) for gap in checker.reset(0)] == [(6, since)]

    def test_each_connection_counts_for_itself(self):
        numbers = messages([(1, 0), (5, 0), (3, 0), (6, 0), (2, 1), (9, 0)])
        assert check(feed_of(), numbers, [2], conns=[0, 1, 0, 1, 0, 1]) == [(1, 5, "missing", 7, 9, 2)]


@pytest.fixture(scope="module")
def came():
    """The messages of a real session."""
    if not SESSION.exists():
        pytest.skip(f"the session is not beside the project: {SESSION}")
    with gzip.open(SESSION, "rb") as lines:
        return [found[1] for line in lines if (found := re.match(rb"[\d.]+: (.*)\n", line))]


def test_a_real_session_has_no_gap(came):
    assert check(find_feed("dydx"), came, [100, 7, 1]) == []


@pytest.mark.parametrize("seed", range(4))
def test_of_a_real_session_exactly_what_was_removed_is_found(came, seed):
    numbers = [json.loads(text)["message_id"] for text in came]
    random = np.random.default_rng(seed)
    removed = set(random.choice(np.arange(1, max(numbers)), 20, replace=False).tolist())
    kept = [text for text, number in zip(came, numbers, strict=True) if number not in removed]
    found = check(find_feed("dydx"), kept, random.integers(1, 400, 50).tolist())
    assert {what for _, _, what, *_ in found} == {"missing"}
    assert sum(missing for *_, missing in found) == 20
    assert {expected for *_, expected, _, _ in found} <= removed


class Brute:
    """The rule as it is written, one message after the other, every hole a set of numbers."""

    def __init__(self, within):
        self.within, self.top, self.floor, self.holes, self.gaps = within, None, None, [], []

    def settle(self, everything=False):
        for hole in list(self.holes):
            index, numbers, found = hole
            if everything or self.top - (found - 1) > self.within or not numbers:
                self.holes.remove(hole)
                if numbers:
                    self.gaps.append((0, index, "missing", min(numbers), found, len(numbers)))

    def add(self, index, number, late):
        if self.top is None:
            self.top = self.floor = number
            return
        hole = next((hole for hole in self.holes if number in hole[1]), None)
        if not number and self.top != -1:
            self.settle(everything=True)
            self.gaps.append((0, index, "reset", self.top + 1, number, None))
            self.top = self.floor = number
        elif number > self.top:
            if number > self.top + 1:
                self.holes.append((index, set(range(self.top + 1, number)), number))
            self.top = number
            self.settle()
        elif hole is not None:
            hole[1].discard(number)
            if not late:
                self.gaps.append((0, index, "back", self.top + 1, number, None))
            self.settle()
        elif late and number < self.floor:
            return
        else:
            self.gaps.append((0, index, "repeated" if number == self.top else "back", self.top + 1, number, None))
            if not late:
                self.settle(everything=True)
                self.top = self.floor = number


class TestSameAsBruteForce:
    @settings(deadline=None, max_examples=examples(150))
    @given(
        steps=st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 2, 3, 9, 0, -1, -2, -3, -6, -40]), st.booleans())),
        sizes=st.lists(st.integers(1, 9), max_size=8),
        within=st.sampled_from([1, 3, 8]),
    )
    def test_any_order(self, steps, sizes, within):
        top, pairs = 20, []
        for step, late in steps:
            number = max(top + step, 0)
            pairs.append((number, late))
            top = max(top, number)
        brute = Brute(within)
        for index, (number, late) in enumerate(pairs):
            brute.add(index, number, late)
        brute.settle(everything=True)
        assert sorted(check(feed_of(within), messages(pairs), sizes)) == sorted(brute.gaps)

    @settings(deadline=None, max_examples=examples(60))
    @given(st.data())
    def test_what_is_removed_is_what_is_found(self, data):
        """Answers come up to `within` numbers late, and anything is lost: the sum is exact, however batched."""
        count = data.draw(st.integers(2, 120))
        late = data.draw(st.dictionaries(st.integers(1, count), st.integers(1, WITHIN - 1), max_size=12))
        lost = data.draw(st.sets(st.integers(1, count - 1), max_size=30))
        order = sorted(range(count + 1), key=lambda n: (n + late.get(n, 0) + 0.5 * (n in late), n))
        pairs = [(n, n in late) for n in order if n not in lost or n == 0]
        found = check(feed_of(), messages(pairs), data.draw(st.lists(st.integers(1, 30), max_size=8)))
        came = {n for n, _ in pairs}
        first, last = pairs[0][0], max(came)
        assert sum(gap[-1] for gap in found if gap[2] == "missing") == len(set(range(first, last)) - came)
        assert {gap[2] for gap in found} <= {str(Break.MISSING)}


def test_memory_is_bounded_whatever_comes(monkeypatch):
    monkeypatch.setattr("wsrec.monitor.late._FILLED_MAX", 40)
    feed = feed_of(50)
    checker, reader = LateChecker(feed.sequence.late), FieldReader(feed)
    for start in range(0, 6_000, 1000):
        payloads = messages([(n * 2, n % 3 == 0) for n in range(start, start + 1000)])
        payloads += messages([(10**15 + start, False)]) + messages([(10**14 + start + k, True) for k in range(500)])
        payload = pa.array(payloads, pa.large_binary())
        columns = reader.read(payload, np.ones(len(payloads), np.bool_))
        checker.check(np.zeros(len(payloads), np.uint16), columns, Rows(start, np.arange(len(payloads)), payload))
        held = checker.sequences[0]
        assert len(held.holes) <= 51
        assert sum(len(hole.filled) for hole in held.holes) <= 90
