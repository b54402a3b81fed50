"""wsrec.counts and wsrec.format.counting: one declaration a counter."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.counts import COUNTERS, Counts, counts_of, total
from wsrec.format.counting import count_event, count_rows
from wsrec.format.ledger import Ledger
from wsrec.format.manifest import ManifestLine
from wsrec.ipc import SummaryLine
from wsrec.ring.events import EventKind
from wsrec.ring.status import StatusPage
from wsrec.supervise.outcome import Outcome

ANY = st.builds(Counts, **{name: st.integers(0, 10**15) for name in COUNTERS})
KEYS = ["topics", "count"]


class TestCounts:
    @settings(deadline=None)
    @given(ANY, ANY, ANY)
    def test_they_add_up_and_come_apart(self, one, other, third):
        assert one + other == other + one
        assert (one + other) - other == one
        assert total([one, other, third]) == (one + other) + third
        assert total([]) == Counts()

    def test_each_is_of_rows_or_of_events(self):
        named = Counts().named
        assert {*named("rows")} | {*named("events")} == {*COUNTERS} == {*named()}
        assert not {*named("rows")} & {*named("events")}

    @pytest.mark.parametrize("carrier", [ManifestLine, SummaryLine, Outcome])
    def test_whatever_carries_them_has_them_all(self, carrier):
        assert set(carrier.__struct_fields__).issuperset(COUNTERS)

    def test_of_a_line_of_the_manifest_and_of_a_page(self):
        counts = Counts(**{name: at for at, name in enumerate(COUNTERS, 1)})
        rest = {name: None for name in ManifestLine.__struct_fields__ if name not in COUNTERS}
        line = ManifestLine(**{**rest, "ledger": Ledger()}, **counts.named())
        assert counts_of(line) == counts
        assert total([line, line]) == counts + counts
        page = StatusPage(StatusPage.create("counts", 1))
        for name, count in counts.named().items():
            page.writer[name] = count
        assert counts_of(page.writer) == counts
        assert msgspec.json.decode(msgspec.json.encode(counts), type=Counts) == counts


class TestCounting:
    def test_rows(self):
        received = np.array([True, True, True, False, False])
        data = np.array([True, True, False, False, False])
        sent = np.array([False, False, False, True, False])
        lengths = np.array([10, 20, 4, 8, 1000])
        assert count_rows(received, data, sent, lengths) == Counts(messages=2, control=1, sent=1, payload_bytes=30)

    @pytest.mark.parametrize(
        ("kind", "detail", "counted"),
        [
            ("gap", {}, Counts(gaps=1)),
            ("lost_interval", {}, Counts(lost_intervals=1)),
            ("refused", {"topics": ["a", "b"]}, Counts(refused=2, answered=2)),
            ("refused", {"topics": []}, Counts(refused=1)),
            ("unanswered", {"topics": ["a"]}, Counts(refused=1, answered=1)),
            ("late", {"topics": ["a"]}, Counts(refused=1)),
            ("ack", {"topics": ["a"]}, Counts(answered=1)),
            ("not_inflated", {"count": 3}, Counts(not_inflated=3)),
            ("tcp", {}, Counts()),
        ],
    )
    def test_events(self, kind, detail, counted):
        assert count_event(kind, detail) == counted

    @given(
        st.sampled_from(list(EventKind)), st.dictionaries(st.sampled_from(["topics", "count"]), st.none() | st.text())
    )
    def test_a_detail_may_be_anything(self, kind, detail):
        assert min(count_event(kind, detail).named().values()) >= 0
