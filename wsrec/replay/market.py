"""A synthetic market that speaks Binance USD-M futures: the source `demo`.

The market is shared by all clients and runs on after they leave, as a real one does: a client that reconnects finds a
gap. It is a pure function of its seed, its rate and the times at which streams were added; only the times in the
messages (`E`, `T`) come from outside. Events are a Poisson process over all streams ever subscribed to, in the
proportions of the real BTCUSDT recording of 2024-08-08 (70 % bookTicker, 23 % trade, 7 % depth@0ms). The timed depth
streams (`@depth` 250 ms, `@depth@100ms`, `@depth@500ms`) are sent in addition, at their interval.

Each book has a spread of one tick and `_LEVELS` levels on each side. The first update of a depth stream carries the
whole book, so a client that starts with it needs no snapshot.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

_LEVELS = 100
_DEPTH_INTERVALS = {"depth": 0.25, "depth@0ms": None, "depth@100ms": 0.1, "depth@500ms": 0.5}  # s
_SHARES = {"bookTicker": 0.703, "trade": 0.227, "depth@0ms": 0.07}
_MEAN_UPDATE_IDS = 80  # mean step of the update id at a change of the book; Binance shares it between all symbols


class SymbolSpec(NamedTuple):
    """Initial price and number formats of a symbol.

    Attributes:
        price: initial best bid, in ticks.
        tick: the price step, in units of the last decimal place.
        price_format: `%` format of (whole, fraction) of a price with `price_scale` units.
        price_scale: units in 1.
        quantity_format: `%` format of (whole, fraction) of a quantity with `quantity_scale` steps.
        quantity_scale: steps in 1.
        quantity: mean quantity of a level, in steps.
        share: share of all events.

    """

    price: int
    tick: int
    price_format: str
    price_scale: int
    quantity_format: str
    quantity_scale: int
    quantity: int
    share: float


SYMBOLS = {
    "BTCUSDT": SymbolSpec(618_002, 10, "%d.%02d", 100, "%d.%03d", 1000, 1500, 0.6),
    "ETHUSDT": SymbolSpec(268_451, 1, "%d.%02d", 100, "%d.%03d", 1000, 20_000, 0.25),
    "SOLUSDT": SymbolSpec(15_432, 100, "%d.%04d", 10_000, "%d.%02d", 100, 40_000, 0.15),
}


class Event(NamedTuple):
    """One message of the market.

    Attributes:
        stream: the stream's name, as in subscriptions.
        payload: with the combined-stream envelope.

    """

    stream: str
    payload: bytes

    @property
    def bare(self) -> bytes:
        """The payload without the envelope."""
        return self.payload[len(self.stream) + 20 : -1]


class Market:
    """The market.

    Args:
        seed: seed of its random numbers.
        rate: mean events per second (not counting the timed depth streams).

    Attributes:
        next_time: when the next event is due, in seconds of market time; infinite before the first stream is added.

    """

    def __init__(self, *, seed: int = 1, rate: float = 1000.0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a market, not a secret
        self._rate = rate
        self._books = {name: _Book(name, spec, self._random) for name, spec in SYMBOLS.items()}
        self._makers: list[Callable[[int], list[Event]]] = []
        self._weights: list[float] = []
        self._event_rate = 0.0
        self._timed: dict[tuple[str, str], float] = {}
        self._poisson_time = math.inf
        self.next_time = math.inf

    def add(self, stream: str, now: float) -> None:
        """Start a stream at `now` (s of market time); an unknown stream stays silent, as at the exchange."""
        symbol, _, kind = stream.partition("@")
        book = self._books.get(symbol.upper())
        if book is None or symbol != symbol.lower() or kind in book.kinds:
            return
        if kind in _DEPTH_INTERVALS:
            book.add_depth(kind)
            interval = _DEPTH_INTERVALS[kind]
            if interval is not None:
                self._timed[book.name, kind] = now + interval
        elif kind not in ("trade", "aggTrade", "bookTicker"):
            return
        book.kinds.add(kind)
        self._reweigh()
        if self._weights:
            # a Poisson process has no memory: drawing again from now on gives the same process at the new rate
            self._poisson_time = now + self._random.expovariate(self._event_rate)
        self._set_next()

    def step(self, now_ms: int) -> list[Event]:
        """Execute the next event and return its messages, timestamped with `now_ms` (ms since the epoch)."""
        if self._timed:
            timed = min(self._timed, key=self._timed.__getitem__)
            if self._timed[timed] <= self._poisson_time:
                symbol, kind = timed
                self._timed[timed] += _DEPTH_INTERVALS[kind] or 0.0
                self._set_next()
                return self._books[symbol].depth_update(kind, now_ms)
        (make,) = self._random.choices(self._makers, cum_weights=self._weights)
        self._poisson_time += self._random.expovariate(self._event_rate)
        self._set_next()
        return make(now_ms)

    def _set_next(self) -> None:
        self.next_time = min(self._poisson_time, *self._timed.values()) if self._timed else self._poisson_time

    def _reweigh(self) -> None:
        makers: list[Callable[[int], list[Event]]] = []
        weights: list[float] = []
        messages = 0.0
        for name, book in self._books.items():
            share = SYMBOLS[name].share
            if "bookTicker" in book.kinds:
                makers.append(book.book_ticker)
                weights.append(share * _SHARES["bookTicker"])
                messages += weights[-1]
            if trades := len(book.kinds & {"trade", "aggTrade"}):
                makers.append(book.trade)
                weights.append(share * _SHARES["trade"])
                messages += weights[-1] * trades
            if "depth@0ms" in book.kinds:
                makers.append(book.depth_0ms)
                weights.append(share * _SHARES["depth@0ms"])
                messages += weights[-1]
        self._makers = makers
        self._weights = list(itertools.accumulate(weights))
        # a trade with both of its streams is two messages, and the rate counts messages
        self._event_rate = self._rate * sum(weights) / messages if messages else 0.0


class _Changes:
    """Changes of a book since a depth stream's last update."""

    def __init__(self, last_id: int, bids: set[int], asks: set[int]) -> None:
        self.last_id = last_id
        self.first_id: int | None = None
        self.bids = bids
        self.asks = asks


class _Book:
    """One symbol: its book, as quantity by price in ticks, and its counters."""

    def __init__(self, name: str, spec: SymbolSpec, rng: random.Random) -> None:
        self.name = name
        self.kinds: set[str] = set()
        self._random = rng
        self._spec = spec
        self._bid = spec.price  # the best ask is always one tick above
        levels = range(self._bid - _LEVELS + 1, self._bid + _LEVELS + 1)
        self._quantities = {tick: self._new_quantity() for tick in levels}
        self._update_id = rng.randrange(5_000_000_000_000, 6_000_000_000_000)
        self._trade_id = rng.randrange(5_000_000_000, 6_000_000_000)
        self._agg_id = rng.randrange(2_000_000_000, 3_000_000_000)
        self._changes: dict[str, _Changes] = {}

    def add_depth(self, kind: str) -> None:
        levels = sorted(self._quantities)
        bids, asks = set(levels[:_LEVELS]), set(levels[_LEVELS:])
        self._changes[kind] = _Changes(self._update_id, bids, asks)

    def trade(self, now_ms: int) -> list[Event]:
        """A market order at the best level, which sometimes exhausts it."""
        rng = self._random
        buyer_is_maker = rng.random() < 0.5
        tick = self._bid if buyer_is_maker else self._bid + 1
        resting = self._quantities[tick]
        quantity = min(1 + int(rng.expovariate(10 / self._spec.quantity)), resting)
        if quantity == resting:
            self._move(-1 if buyer_is_maker else 1)
        else:
            self._set(tick, resting - quantity)
        self._trade_id += 1
        self._agg_id += 1
        price, amount, maker = self._price(tick), self._quantity(quantity), "true" if buyer_is_maker else "false"
        events = []
        if "trade" in self.kinds:
            data = (
                f'{{"e":"trade","E":{now_ms},"T":{now_ms},"s":"{self.name}","t":{self._trade_id},'
                f'"p":"{price}","q":"{amount}","X":"MARKET","m":{maker}}}'
            )
            events.append(self._event("trade", data))
        if "aggTrade" in self.kinds:
            data = (
                f'{{"e":"aggTrade","E":{now_ms},"a":{self._agg_id},"s":"{self.name}","p":"{price}","q":"{amount}",'
                f'"f":{self._trade_id},"l":{self._trade_id},"T":{now_ms},"m":{maker}}}'
            )
            events.append(self._event("aggTrade", data))
        return events

    def book_ticker(self, now_ms: int) -> list[Event]:
        """The quantity of the best bid or ask changes, or the price moves."""
        rng = self._random
        draw = rng.random()
        if draw < 0.1:
            self._move(1 if draw < 0.05 else -1)
        else:
            self._set(self._bid + (draw < 0.55), self._new_quantity())
        bid, ask = self._bid, self._bid + 1
        data = (
            f'{{"e":"bookTicker","u":{self._update_id},"s":"{self.name}",'
            f'"b":"{self._price(bid)}","B":"{self._quantity(self._quantities[bid])}",'
            f'"a":"{self._price(ask)}","A":"{self._quantity(self._quantities[ask])}","T":{now_ms},"E":{now_ms}}}'
        )
        return [self._event("bookTicker", data)]

    def depth_0ms(self, now_ms: int) -> list[Event]:
        return self.depth_update("depth@0ms", now_ms)

    def depth_update(self, kind: str, now_ms: int) -> list[Event]:
        """Some levels away from the spread change; all changes since the stream's last update are sent."""
        rng = self._random
        for _ in range(1 + int(rng.expovariate(1 / 12))):
            distance = min(1 + int(rng.expovariate(1 / 15)), _LEVELS - 1)
            self._set(self._bid - distance if rng.random() < 0.5 else self._bid + 1 + distance, self._new_quantity())
        changes = self._changes[kind]
        quantities = self._quantities
        bids = ((tick, quantities.get(tick, 0) if tick <= self._bid else 0) for tick in sorted(changes.bids))
        asks = ((tick, quantities.get(tick, 0) if tick > self._bid else 0) for tick in sorted(changes.asks))
        data = (
            f'{{"e":"depthUpdate","E":{now_ms},"T":{now_ms},"s":"{self.name}","U":{changes.first_id},'
            f'"u":{self._update_id},"pu":{changes.last_id},'
            f'"b":[{self._rows(bids)}],"a":[{self._rows(asks)}]}}'
        )
        self._changes[kind] = _Changes(self._update_id, set(), set())
        return [self._event(kind, data)]

    def _set(self, tick: int, quantity: int) -> None:
        self._quantities[tick] = quantity
        self._changed(bid=tick if tick <= self._bid else None, ask=tick if tick > self._bid else None)

    def _move(self, direction: int) -> None:
        """Move the spread by one tick: one level changes sides, one is added and one removed at the ends."""
        if self._bid <= 2 * _LEVELS:
            direction = 1  # no price below zero
        crossed = self._bid + (direction > 0)
        self._bid += direction
        far_bid, far_ask = self._bid - _LEVELS, self._bid + _LEVELS
        entering, leaving = (far_ask, far_bid) if direction > 0 else (far_bid + 1, far_ask + 1)
        self._quantities[crossed] = self._new_quantity()
        self._quantities[entering] = self._new_quantity()
        del self._quantities[leaving]
        bid_end, ask_end = (leaving, entering) if direction > 0 else (entering, leaving)
        self._changed(bid=crossed, ask=crossed)
        self._changed(bid=bid_end, ask=ask_end)

    def _changed(self, *, bid: int | None, ask: int | None) -> None:
        self._update_id += 1 + int(self._random.random() * 2 * _MEAN_UPDATE_IDS)
        for changes in self._changes.values():
            if changes.first_id is None:
                changes.first_id = self._update_id
            if bid is not None:
                changes.bids.add(bid)
            if ask is not None:
                changes.asks.add(ask)

    def _new_quantity(self) -> int:
        return 1 + int(self._random.expovariate(1 / self._spec.quantity))

    def _price(self, tick: int) -> str:
        spec = self._spec
        return spec.price_format % divmod(tick * spec.tick, spec.price_scale)

    def _quantity(self, steps: int) -> str:
        return self._spec.quantity_format % divmod(steps, self._spec.quantity_scale)

    def _rows(self, levels: Iterable[tuple[int, int]]) -> str:
        return ",".join([f'["{self._price(tick)}","{self._quantity(steps)}"]' for tick, steps in levels])

    def _event(self, kind: str, data: str) -> Event:
        stream = f"{self.name.lower()}@{kind}"
        return Event(stream, f'{{"stream":"{stream}","data":{data}}}'.encode())
