"""What the other tools make of exported files: run by their own interpreter (.venv-tools), which has no wsrec.

python in_other_tools.py QUESTION RESULT.json ARGUMENTS...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TICK, LOT = 0.1, 0.001


def hftbacktest(asked: str) -> dict[str, Any]:
    """Its conversions of recordings beside exported events, backtests of these, its reading of tardis files.

    Args:
        asked: JSON: `pairs` of a recording and an exported file, `backtests` of exported files, `tardis` files.

    """
    from hftbacktest.data.utils import tardis

    files = json.loads(asked)
    return {
        "pairs": [conversion(recording, exported) for recording, exported in files["pairs"]],
        "backtests": [backtest(file) for file in files["backtests"]],
        "from_tardis": len(tardis.convert(files["tardis"], buffer_size=1_000_000)),
    }


def conversion(recording: str, exported: str) -> dict[str, Any]:
    """Whether its conversion of a recording has the exported events, but for those that clear the book.

    It clears each side up to the snapshot's last level; levels beyond it would stay.
    """
    import numpy as np
    from hftbacktest import DEPTH_CLEAR_EVENT
    from hftbacktest.data.utils import binancefutures

    theirs = binancefutures.convert(recording, buffer_size=1_000_000)
    ours = np.load(exported)["data"]
    kept = [events[events["ev"] & 0xFF != DEPTH_CLEAR_EVENT] for events in (ours, theirs)]
    equal = ours.dtype == theirs.dtype and np.array_equal(*kept)
    return {"events": len(theirs), "equal": bool(equal)}


def backtest(exported: str) -> dict[str, Any]:
    """A backtest in steps of a second: a market order after 10 s, and the book at its end."""
    import hftbacktest as hft

    asset = (
        hft.BacktestAsset()
        .data([exported])
        .linear_asset(1.0)
        .constant_order_latency(1_000_000, 1_000_000)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0002, 0.0005)
        .tick_size(TICK)
        .lot_size(LOT)
        .last_trades_capacity(100_000)
    )
    run = hft.HashMapMarketDepthBacktest([asset])
    steps = trades = 0
    while run.elapse(1_000_000_000) == 0:
        steps += 1
        trades += len(run.last_trades(0))
        run.clear_last_trades(0)
        if steps == 10:
            run.submit_buy_order(0, 1, round(run.depth(0).best_ask + 10, 1), 0.002, hft.GTC, hft.LIMIT, True)
    depth = run.depth(0)
    found = {"bid": round(depth.best_bid, 1), "ask": round(depth.best_ask, 1), "position": run.position(0)}
    run.close()
    return found | {"trades": trades}


def nautilus(catalogue: str, instrument: str, *tardis_files: str) -> dict[str, Any]:
    """What its catalogue reads, the book that its deltas make, and what it reads of tardis files."""
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.enums import BookType
    from nautilus_trader.model.identifiers import InstrumentId
    from nautilus_trader.persistence.catalog import ParquetDataCatalog

    catalog = ParquetDataCatalog(catalogue)
    trades, quotes = catalog.trade_ticks([instrument]), catalog.quote_ticks([instrument])
    deltas = catalog.order_book_deltas([instrument])
    book = OrderBook(InstrumentId.from_str(instrument), BookType.L2_MBP)
    for delta in deltas:
        book.apply_delta(delta)
    sides = (book.bids(), book.asks())
    return {
        "counts": [len(trades), len(quotes), len(deltas)],
        "trades": [
            [str(t.price), str(t.size), t.aggressor_side.name, str(t.trade_id), t.ts_event, t.ts_init] for t in trades
        ],
        "quotes": [
            [str(q.bid_price), str(q.bid_size), str(q.ask_price), str(q.ask_size), q.ts_event, q.ts_init]
            for q in quotes
        ],
        "tardis": dict(map(tardis_rows, tardis_files)),
        "book": [[[str(level.price), f"{level.size():.3f}"] for level in side] for side in sides],
    }


def tardis_rows(file: str) -> tuple[str, list[Any]]:
    """A file's name, how many rows its reader finds in it, and the first one's instrument."""
    from nautilus_trader.adapters.tardis.loaders import TardisCSVDataLoader

    loader = TardisCSVDataLoader()
    readers = {"trades": loader.load_trades, "book_ticker": loader.load_quotes, "incremental": loader.load_deltas}
    (reader,) = (reader for name, reader in readers.items() if name in file)
    rows = reader(file)
    return Path(file).name, [len(rows), str(rows[0].instrument_id)]


if __name__ == "__main__":
    question, result, *arguments = sys.argv[1:]
    Path(result).write_text(json.dumps(globals()[question](*arguments)))
