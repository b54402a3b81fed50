"""wsrec.verify.stream_rows: the rows of many streams at once give what each stream gives row by row."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from types import MappingProxyType
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.feed.sequence_rules import SequenceRule, SequenceScope
from wsrec.monitor.comparison import Link
from wsrec.monitor.sequence_gap import Break, SequenceGap
from wsrec.plan.request_table import RequestTable
from wsrec.verify import stream_rows
from wsrec.verify.epochs import Epochs
from wsrec.verify.model import State
from wsrec.verify.session_facts import SessionFacts
from wsrec.verify.stream_rows import Held, Piece, Span, StreamRows

CHANNELS = ["trade", "depth", None]
SYMBOLS = ["A", "B", "C", None]

row = st.tuples(
    st.integers(0, 2),  # connection
    st.integers(0, 2),  # channel
    st.integers(0, 3),  # symbol
    st.sampled_from([True, True, True, False]),  # carried
    st.sampled_from([0, 1, 1, 1, 2, 3]),  # run
    st.sampled_from([Link.NONE, Link.COMPARED, Link.UNNUMBERED]),
    st.sampled_from([False] * 5 + [True]),  # shows a gap
)


class RowByRow:
    """What `StreamRows` is to find, from one row after the other."""

    def __init__(self):
        self.spans, self.counts, self.gaps, self.links = {}, Counter(), Counter(), {}

    def add(self, rows):
        of: dict[tuple[int, str | None, str | None], list] = {}
        for at, (conn, channel, symbol, carried, *_), *_ in rows:
            if carried and CHANNELS[channel] is not None:
                of.setdefault((conn, CHANNELS[channel], SYMBOLS[symbol]), []).append(at)
        by_place = {at: (each, moment) for at, each, moment in rows}
        for key, places in of.items():
            self._stream(key, [by_place[at] for at in places])

    def _stream(self, key, rows):
        steps = []
        for (*_, run, link, is_gap), moment in rows:
            span = self.spans.get(key)
            if span is None:
                span = self.spans[key] = Span(moment)
            else:
                state = State.INCOMPLETE if is_gap else State.PROVED if run and run == span.run else State.UNBROKEN
                steps.append((state, span.last, moment, link))
            span.run, span.last = run, moment
            self.counts[key] += 1
            self.gaps[key] += is_gap
            self.links.setdefault(key, Counter())[link] += 1
        for state, same in groupby(steps, key=lambda each: each[0]):
            part = list(same)
            if state is State.INCOMPLETE:
                for _, since, until, _ in part:
                    self.spans[key].add(Piece(since, until, state, ANY))
                continue
            untested = state is State.UNBROKEN and any(link is not Link.NONE for *_, link in part)
            reason = "not compared" if untested else ""
            self.spans[key].add(Piece(part[0][1], part[-1][2], state, reason))


def gap_at(place, conn, channel, symbol):
    return SequenceGap(
        index=place,
        conn=conn,
        channel=CHANNELS[channel],
        symbol=SYMBOLS[symbol],
        rule=SequenceRule.NEXT,
        expected=place,
        found=place + 1,
        missing=1,
        what=Break.MISSING,
        scope=SequenceScope.SYMBOL,
    )


def stream_rows_of(batches):
    facts = SessionFacts(whole=True)
    found = StreamRows(Epochs(RequestTable(), MappingProxyType({})), facts, has_fields=True)
    expected, moment = RowByRow(), 100
    for batch in batches:
        moments = [moment + 10 * number for number in range(len(batch))]
        moment += 10 * len(batch)
        expected.add(list(zip(range(len(batch)), batch, moments, strict=True)))
        conns, channels, symbols, carried, runs, links, gaps = zip(*batch, strict=True)
        named = [at for at, each in enumerate(batch) if each[3] and CHANNELS[each[1]] is not None]
        held = Held(
            [gap_at(at, conns[at], channels[at], symbols[at]) for at in named if gaps[at]],
            np.array(links, np.uint8),
            np.array(runs, np.int64),
        )
        found.add(
            np.array(moments),
            np.array(conns, np.uint16),
            (np.array(channels, np.int32), CHANNELS),
            (np.array(symbols, np.int32), SYMBOLS),
            np.array(carried),
            held,
        )
    return found, expected


@pytest.mark.parametrize("limit", [65_536, 3])
@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(row, min_size=1, max_size=40), min_size=1, max_size=4))
def test_many_streams_at_once_are_as_each_row_by_row(limit, batches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_rows, "_STREAMS", limit)
        found, expected = stream_rows_of(batches)
    total = sum(messages.count for messages in found.streams.values())
    assert total == sum(expected.counts.values())
    # beyond the limit streams are merged, those before are as ever
    exact = [key for key in found.streams if key in expected.counts]
    assert limit == 3 or len(exact) == len(expected.counts)
    for key in exact:
        messages, span = found.streams[key], expected.spans[key]
        assert (messages.count, messages.gaps) == (expected.counts[key], expected.gaps[key])
        assert messages.links == expected.links[key]
        assert messages.spans[0].pieces == span.pieces
        assert (messages.spans[0].first, messages.spans[0].last, messages.last) == (span.first, span.last, span.last)
