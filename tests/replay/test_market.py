"""The synthetic market: Binance's rules hold whatever the seed."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.replay.market import SYMBOLS, Market

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "binance-usdm-btcusdt-20240808.txt.gz"
KINDS = ["trade", "aggTrade", "bookTicker", "depth@0ms", "depth@100ms", "depth"]
NOW = 1_700_000_000_000


def run(market, streams, events):
    for stream in streams:
        market.add(stream, 0.0)
    return [event for _ in range(events) for event in market.step(NOW)]


def everything(seed, events=2000):
    return run(Market(seed=seed), [f"{name.lower()}@{kind}" for name in SYMBOLS for kind in KINDS], events)


def by_stream(events):
    streams = {}
    for event in events:
        document = json.loads(event.payload)
        assert document["stream"] == event.stream
        assert json.loads(event.bare) == document["data"]
        streams.setdefault(event.stream, []).append(document["data"])
    return streams


seeds = given(st.integers(min_value=0, max_value=2**64))
few = settings(max_examples=examples(15), deadline=None)


class TestChains:
    @seeds
    @few
    def test_depth_updates_follow_each_other(self, seed):
        for stream, updates in by_stream(everything(seed)).items():
            if "@depth" in stream:
                assert all(before["u"] == after["pu"] for before, after in pairwise(updates))
                assert all(update["pu"] < update["U"] <= update["u"] for update in updates)

    @seeds
    @few
    def test_trade_ids_are_contiguous(self, seed):
        for stream, trades in by_stream(everything(seed)).items():
            if "rade" in stream:
                ids = [trade["t" if stream.endswith("@trade") else "a"] for trade in trades]
                assert ids == list(range(ids[0], ids[0] + len(ids)))

    @seeds
    @few
    def test_book_built_from_depth_agrees_with_book_ticker(self, seed):
        stream = run(Market(seed=seed), ["ethusdt@bookTicker", "ethusdt@depth@0ms", "ethusdt@trade"], 3000)
        book = {"b": {}, "a": {}}
        compared = 0
        last_id = 0
        ticker = None
        for event in stream:
            data = json.loads(event.bare)
            if data["e"] == "bookTicker":
                assert data["u"] > last_id
                last_id = data["u"]
                ticker = data
            elif data["e"] == "trade":
                ticker = None  # it changes the book after the best prices were sent
            else:
                assert data["u"] > last_id
                for side in "ba":
                    prices = [float(price) for price, _ in data[side]]
                    assert prices == sorted(set(prices))
                    book[side] |= dict(data[side])
                    book[side] = {price: size for price, size in book[side].items() if float(size)}
                assert len(book["b"]) == len(book["a"]) == 100
                bid, ask = max(book["b"], key=float), min(book["a"], key=float)
                assert float(bid) < float(ask)
                if ticker:
                    expected = (bid, book["b"][bid], ask, book["a"][ask])
                    assert (ticker["b"], ticker["B"], ticker["a"], ticker["A"]) == expected
                    compared += 1
        assert compared > 20


class TestForm:
    @pytest.mark.skipif(not RECORDING.exists(), reason=f"no shared recording at {RECORDING}")
    def test_same_as_the_real_ones(self):
        def shape(value):
            if isinstance(value, dict):
                return [(key, shape(inner)) for key, inner in value.items()]
            if isinstance(value, list):
                return "list"
            if isinstance(value, str) and value.replace(".", "").isdigit():
                return ("number", len(value.partition(".")[2]))
            return value if isinstance(value, str) else type(value)

        ours = {
            document["e"]: document
            for _, [document, *_] in by_stream(
                run(Market(), ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@0ms"], 500)
            ).items()
        }
        seen = set()
        with gzip.open(RECORDING) as lines:
            for line in lines:
                document = json.loads(line.partition(b" ")[2])
                if (data := document.get("data")) and data["e"] not in seen:
                    seen.add(data["e"])
                    assert shape(data) == shape(ours[data["e"]])
                if len(seen) == 3:
                    return
        pytest.fail(f"only {seen} in the recording")

    def test_times_are_the_senders(self):
        for event in everything(1, 200):
            assert json.loads(event.bare)["E"] == json.loads(event.bare)["T"] == NOW


class TestPace:
    def test_same_seed_same_market(self):
        assert everything(7, 500) == everything(7, 500)
        assert everything(7, 500) != everything(8, 500)

    @pytest.mark.parametrize("kinds", [["trade"], ["trade", "aggTrade"], ["trade", "bookTicker", "depth@0ms"]])
    def test_the_rate_is_kept_whatever_is_subscribed(self, kinds):
        market = Market(seed=5, rate=250)
        events = run(market, [f"solusdt@{kind}" for kind in kinds], 10_000)
        assert len(events) / market.next_time == pytest.approx(250, rel=0.05)

    def test_timed_streams_come_on_their_interval(self):
        market = Market(seed=5, rate=250)
        market.add("btcusdt@depth@100ms", 5.0)
        for n in range(1, 10):
            assert market.next_time == pytest.approx(5.0 + n * 0.1)
            market.step(NOW)

    def test_unknown_streams_stay_silent(self):
        market = Market()
        for stream in ("nonsense@trade", "BTCUSDT@trade", "btcusdt@kline_1m", "btcusdt", "!bookTicker"):
            market.add(stream, 0.0)
        assert market.next_time == float("inf")
