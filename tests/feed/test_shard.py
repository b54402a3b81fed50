from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.errors import ConfigError
from wsrec.feed.shard import Shard
from wsrec.plan.target import resolve

names = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=60)


def owner(name, of):
    (number,) = [number for number in range(1, of + 1) if Shard(number, of).includes(name)]
    return number


class TestShard:
    @given(names, st.integers(1, 8))
    def test_each_symbol_is_in_exactly_one(self, symbols, of):
        for symbol in symbols:
            owner(symbol, of)

    @given(names, st.integers(1, 8))
    def test_one_more_takes_its_part_and_nothing_else_moves(self, symbols, of):
        for symbol in symbols:
            before, after = owner(symbol, of), owner(symbol, of + 1)
            assert after in (before, of + 1)

    def test_are_about_equal(self):
        shares = [sum(Shard(number, 8).includes(f"S{n}USDT") for n in range(4000)) for number in range(1, 9)]
        assert sum(shares) == 4000
        assert min(shares) > 400
        assert max(shares) < 600

    def test_stays_what_it_was(self):
        # a recorder that restarts with another version takes the same symbols
        assert [owner(symbol, 16) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")] == [5, 8, 9]

    @pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/8"])
    def test_is_a_number_of_how_many(self, text):
        with pytest.raises(ValueError, match="expected NUMBER/OF"):
            Shard.parse(text)


class TestTargets:
    def test_shards_together_are_everything(self):
        symbols = [f"S{n}USDT" for n in range(50)]
        shares = [resolve("binance", symbols, shard=Shard(number, 4)).symbols for number in range(1, 5)]
        assert sorted(symbol for share in shares for symbol in share) == sorted(symbols)

    def test_channels_without_symbol_are_in_one(self):
        found = []
        for number in range(1, 4):
            target = resolve(
                "binance-usdm", [f"S{n}" for n in range(30)], ["!ticker@arr", "book"], shard=Shard(number, 3)
            )
            found += [name for name in target.channels if name == "!ticker@arr"]
        assert len(found) == 1

    def test_one_that_has_nothing_says_so(self):
        empty = next(n for n in range(1, 4) if not Shard(n, 3).includes("BTCUSDT"))
        with pytest.raises(ConfigError, match=f"shard {empty}/3 has none of the symbols"):
            resolve("binance", ["BTCUSDT"], shard=Shard(empty, 3))
