"""The sequence rules of the catalogue against recordings: what bears them out, and that loss is found by them."""

from __future__ import annotations

import gzip
import random
import re
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.real_messages import DATA
from wsrec.decode.implementation import FieldReader
from wsrec.feed.channel import Channel
from wsrec.feed.load import catalogue
from wsrec.feed.load import find_feed as load
from wsrec.feed.sequence_rules import Evidence, SequenceRule
from wsrec.monitor.sequence import SequenceChecker
from wsrec.monitor.sequence_gap import Break

USDM = "binance-usdm-btcusdt-20240808.txt.gz"
# feed, channel, recording: the channel's rule holds in every succession of it, and its `evidence` says in how many
COUNTED = {
    ("binance", "depth@100ms", "binance"): 173,
    ("binance", "bookTicker", "binance"): 81,
    ("binance-usdm", "trade", USDM): 21_312,
    ("binance-usdm", "depth@0ms", USDM): 6_550,
    ("binance-usdm", "bookTicker", USDM): 66_088,
    ("bitstamp", "diff_order_book", "bitstamp"): 708,
    ("coinbase", "matches", "coinbase"): 97,
    ("coinbase", "ticker", "coinbase"): 97,
    ("gateio", "spot.order_book_update", "gateio"): 162,
    ("kucoin", "match", "kucoin"): 15,
    ("kucoin", "level2", "kucoin"): 3_844,
    ("kucoin", "ticker", "kucoin"): 821,
}
# The other Binance markets speak the same language: the trades of the recording, read by their feeds
SAME_WORDS = [(feed, "trade", USDM) for feed in ("binance", "binance-us", "binance-coinm")]
MOST = 9_757
find_feed = cache(load)
COUNTING = (SequenceRule.NEXT, SequenceRule.TOUCHING)


@cache
def received(recording: str) -> list[bytes]:
    """What came in a recording, in order."""
    path = DATA / recording if recording.endswith(".gz") else DATA / "sessions" / f"{recording}.txt.gz"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    line_of = re.compile(rb"\d+ (.*)\n" if recording == USDM else rb"[\d.]+: (.*)\n")
    with gzip.open(path) as lines:
        return [found[1] for line in lines if (found := line_of.fullmatch(line))]


def read(feed, messages):
    payload = pa.array(messages, pa.large_binary())
    return FieldReader(feed).read(payload, np.ones(len(payload), np.bool_))


@cache
def stream(feed_name: str, channel: str, recording: str):
    """The messages of a channel that have a number, and the symbol of each."""
    feed, messages = find_feed(feed_name), received(recording)
    columns = read(feed, messages)
    wanted = feed.channel_table[channel]
    names, symbols, numbers = (column.to_pylist() for column in (columns.channel, columns.symbol, columns.exchange_seq))
    return [
        (message, symbol)
        for message, name, symbol, number in zip(messages, names, symbols, numbers, strict=True)
        if number is not None and feed.channel_by_any_name.get(name) == wanted
    ]


def breaks(feed, messages):
    return SequenceChecker(feed).check(np.zeros(len(messages), np.uint16), read(feed, messages)).gaps


@pytest.mark.parametrize(("feed_name", "channel", "recording"), COUNTED)
def test_the_rule_holds_in_every_succession_that_its_evidence_counts(feed_name, channel, recording):
    feed = find_feed(feed_name)
    messages = stream(feed_name, channel, recording)
    successions = len(messages) - len({symbol for _, symbol in messages})
    assert successions == COUNTED[feed_name, channel, recording]
    assert breaks(feed, [message for message, _ in messages]) == []
    evidence = feed.channel_table[channel].evidence
    assert (successions, successions) in {(each.held, each.seen) for each in evidence}


@pytest.mark.parametrize(
    ("feed_name", "channel", "recording"),
    [
        *(
            case
            for case in COUNTED
            if find_feed(case[0]).channel_table[case[1]].sequence is not SequenceRule.INCREASING
        ),
        *SAME_WORDS,
    ],
)
def test_messages_that_are_removed_are_found(feed_name, channel, recording):
    feed = find_feed(feed_name)
    recorded_by = "binance-usdm" if recording == USDM else feed_name
    messages = stream(recorded_by, channel, recording)[:MOST]
    ends = {symbol: place for place, (_, symbol) in enumerate(messages)}
    begins = {symbol: place for place, (_, symbol) in reversed(list(enumerate(messages)))}
    inner = [place for place, (_, symbol) in enumerate(messages) if place not in (begins[symbol], ends[symbol])]
    removed = set(random.Random(9).sample(inner, min(100, len(inner) // 10)))
    # a loss is as many messages of a symbol as are missing one behind the other
    losses, before = 0, {}
    for place, (_, symbol) in enumerate(messages):
        losses += place in removed and not before.get(symbol, False)
        before[symbol] = place in removed
    found = breaks(feed, [message for place, (message, _) in enumerate(messages) if place not in removed])
    assert len(found) == losses > 0
    assert {gap.what for gap in found} == {Break.MISSING}
    if feed.channel_table[channel].sequence in COUNTING and feed.channel_table[channel].seq_first == ():
        assert sum(gap.missing for gap in found) == len(removed)


def test_a_market_with_ids_that_rise_by_one_says_so():
    """No recording of these is beside the project: what is claimed is counted elsewhere, and named."""
    for feed_name, channel, seen in (
        ("binance", "trade", 15_861),
        ("binance-us", "aggTrade", 10),
        ("binance-coinm", "trade", 4_147),
        ("binance-coinm", "aggTrade", 44),
        ("binance-coinm", "depth@0ms", 43_091),
        ("binance-usdm", "aggTrade", 87),
    ):
        reported = find_feed(feed_name).channel_table[channel]
        assert reported.sequence in (SequenceRule.NEXT, SequenceRule.PREVIOUS)
        assert (seen, seen) in {(each.held, each.seen) for each in reported.evidence}, (feed_name, channel)


def test_a_rule_that_shows_loss_has_something_to_bear_it_out():
    """Order alone may be believed; that something is missing has to be documented or counted."""
    bare = [
        f"{name}: {key}"
        for name in catalogue()
        for key, channel in find_feed(name).channels.items()
        if channel.sequence not in (SequenceRule.NONE, SequenceRule.INCREASING) and not channel.evidence
    ]
    assert bare == []


class TestKey:
    @pytest.mark.parametrize(
        "evidence",
        [
            {"held": 5, "source": "x"},
            {"seen": 5, "source": "x"},
            {"held": 6, "seen": 5, "source": "x"},
            {"held": 5, "seen": 5},
        ],
    )
    def test_counts_belong_together(self, evidence):
        with pytest.raises(ValidationError):
            Evidence.model_validate(evidence)

    def test_is_of_a_rule(self):
        with pytest.raises(ValidationError, match="found it without a rule"):
            Channel(topic="x", evidence=(Evidence(source="x"),))

    def test_reads_as_a_sentence(self):
        assert str(Evidence(held=1_000, seen=2_000, source="a session")) == "1,000 of 2,000: a session"
        assert str(Evidence(source="documented")) == "documented"
