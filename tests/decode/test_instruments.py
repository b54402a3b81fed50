"""What listings of instruments say: the size of a contract, in what, and its steps."""

from __future__ import annotations

import functools
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.venues.listings import LISTINGS
from wsrec.decode.instrument_rows import Instrument, InstrumentReader
from wsrec.feed.instruments import Instruments
from wsrec.feed.load import catalogue, find_feed

MULTIPLIERS = {
    "binance-coinm": {"BTCUSD_PERP": ("100", "quote")},
    "bitmex": {"XBTUSD": ("1", "quote"), "XBTUSDT": ("0.000001", "base"), "ETHUSD": None},
    "gateio-futures": {"BTC_USDT": ("0.0001", "base"), "BTC_USD": ("1", "quote")},
    "htx-linear-swap": {"BTC-USDT": ("0.001", "base")},
    "htx-coin-swap": {"BTC-USD": ("100", "quote")},
    "htx-coin-futures": {"BTC261225": ("100", "quote"), "BTC_CQ": ("100", "quote")},
    "kraken-futures": {"PI_XBTUSD": ("1", "quote"), "PF_XBTUSD": ("1", "base")},
    "kucoin-futures": {"XBTUSDTM": ("0.001", "base"), "XBTUSDM": ("1", "quote")},
    "mexc-futures": {"BTC_USDT": ("0.0001", "base"), "BTC_USD": ("100", "quote")},
    "okx": {
        "BTC-USDT-SWAP": ("0.01", "base"),
        "BTC-USD-261225": ("100", "quote"),
        "BTC-USD-261225-60000-C": ("0.1", "base"),
    },
}


feed_of = functools.cache(find_feed)


def listed(name: str) -> dict[str, Instrument]:
    declared = feed_of(name).instruments
    assert declared is not None
    reader = InstrumentReader(declared)
    return {each.symbol: each for answer in LISTINGS[name] for each in reader.read(json.dumps(answer).encode())}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_each_symbol_has_its_multiplier(name):
    found = {symbol: (each.multiplier, each.multiplier_unit) for symbol, each in listed(name).items()}
    wanted = {
        symbol: (Decimal(said[0]), said[1]) if said else (None, None) for symbol, said in MULTIPLIERS[name].items()
    }
    assert found == wanted


def test_every_feed_that_counts_contracts_says_where_it_lists_them():
    # loading all feeds takes seconds: those without these words can be neither
    texts = {name: path.read_text() for name, path in catalogue().items()}
    counting = {name for name, text in texts.items() if "contracts" in text and feed_of(name).counts_contracts}
    assert counting <= MULTIPLIERS.keys() == {name for name, text in texts.items() if "\ninstruments:\n" in text}
    for name in MULTIPLIERS:
        declared = feed_of(name).instruments
        assert declared is not None
        assert len(declared.urls) == len(LISTINGS[name])


def test_steps_expiry_and_kind_are_read():
    perpetual = listed("binance-coinm")["BTCUSD_PERP"]
    assert (perpetual.price_step, perpetual.size_step, perpetual.expiry) == (Decimal("0.1"), Decimal(1), None)
    assert (perpetual.kind, perpetual.base, perpetual.quote) == ("PERPETUAL", "BTC", "USD")
    assert listed("bitmex")["XBTUSDT"].expiry == 1798200000 * 10**9
    assert listed("htx-coin-futures")["BTC_CQ"].expiry == 1798185600 * 10**9


def test_what_cannot_be_read_is_left_out():
    reader = InstrumentReader(Instruments(urls="https://h/x", items="$[]", symbol="s", columns={"multiplier": "m"}))
    answer = [{"s": "a", "m": "x"}, {"s": "b", "m": "2"}, {"m": "3"}, {"s": "c"}, 5, {"s": "d", "m": "1e9999"}]
    read = reader.read(json.dumps(answer).encode())
    assert read == [Instrument("b", Decimal(2)), Instrument("c")]
    assert reader.refused(json.dumps(answer).encode()) == 4


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "it is empty"),
        (b"<html>later</html>", "it is not JSON"),
        (b"[]", "it names no instrument"),
        (b'{"code": 50001, "msg": "busy"}', "no instrument in it can be read"),
        (b'[{"s": "a", "m": "x"}]', "no instrument in it can be read"),
        (b'[{"s": "a", "m": "x"}, {"s": "b"}]', None),
    ],
)
def test_an_answer_that_says_nothing_of_any_instrument_is_told_from_others(answer, problem):
    reader = InstrumentReader(Instruments(urls="https://h/x", items="$[]", symbol="s", columns={"multiplier": "m"}))
    assert reader.problem(answer) == problem


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
        max_leaves=6,
    )
)
def test_an_answer_may_be_anything(answer):
    declared = feed_of("okx").instruments
    assert declared is not None
    reader = InstrumentReader(declared)
    reader.read(json.dumps(answer).encode())
    reader.read(json.dumps({"data": [answer, {"instId": answer, "ctVal": answer, "ctMult": answer}]}).encode())


GIVEN = {"urls": "https://h/x", "items": "data[]", "symbol": "s", "columns": {"multiplier": "m"}}


class TestDeclaration:
    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"urls": []}, "at least 1"),
            ({"urls": "ftp://h/x"}, "expected https://HOST/PATH"),
            ({"urls": "https://h/{symbol}"}, r"and no placeholder \["),
            ({"columns": {"size": "m"}}, "found no such column, expected one of multiplier"),
            ({"symbol": {"path": "s", "write": "x"}}, "expected {symbol} in it"),
        ],
    )
    def test_mistakes_are_named(self, changed, expected):
        with pytest.raises(ValueError, match=expected):
            Instruments(**{**GIVEN, **changed})
