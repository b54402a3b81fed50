"""What the venues answer where they list their instruments, by feed: of a few, in the shape of their documentation."""

from __future__ import annotations

from typing import Any

LISTINGS: dict[str, list[Any]] = {
    "binance-coinm": [
        {
            "symbols": [
                {
                    "symbol": "BTCUSD_PERP",
                    "contractType": "PERPETUAL",
                    "deliveryDate": 4133404800000,
                    "contractSize": 100,
                    "baseAsset": "BTC",
                    "quoteAsset": "USD",
                    "filters": [
                        {"filterType": "PRICE_FILTER", "minPrice": "1000", "tickSize": "0.1"},
                        {"filterType": "LOT_SIZE", "stepSize": "1", "maxQty": "1000000"},
                    ],
                }
            ]
        }
    ],
    "bitmex": [
        [
            {
                "symbol": "XBTUSD",
                "typ": "FFWCSX",
                "isInverse": True,
                "isQuanto": False,
                "multiplier": -100000000,
                "underlyingToPositionMultiplier": None,
                "tickSize": 0.1,
                "lotSize": 100,
                "expiry": None,
            },
            {
                "symbol": "XBTUSDT",
                "typ": "FFWCSX",
                "isInverse": False,
                "isQuanto": False,
                "multiplier": 1,
                "underlyingToPositionMultiplier": 1000000,
                "tickSize": 0.1,
                "lotSize": 1000,
                "expiry": "2026-12-25T12:00:00.000Z",
            },
            {"symbol": "ETHUSD", "isInverse": False, "isQuanto": True, "multiplier": 100, "tickSize": 0.01},
        ]
    ],
    "gateio-futures": [
        [{"name": "BTC_USDT", "type": "direct", "quanto_multiplier": "0.0001", "order_price_round": "0.1"}],
        [{"name": "BTC_USD", "type": "inverse", "quanto_multiplier": "0", "order_price_round": "0.1"}],
    ],
    "htx-linear-swap": [
        {
            "status": "ok",
            "data": [{"symbol": "BTC", "contract_code": "BTC-USDT", "contract_size": 0.001000000000000000}],
        }
    ],
    "htx-coin-swap": [
        {
            "status": "ok",
            "data": [{"symbol": "BTC", "contract_code": "BTC-USD", "contract_size": 100.0, "price_tick": 0.1}],
        }
    ],
    "htx-coin-futures": [
        {
            "status": "ok",
            "data": [
                {
                    "symbol": "BTC",
                    "contract_code": "BTC261225",
                    "contract_type": "quarter",
                    "contract_size": 100.0,
                    "price_tick": 0.01,
                    "delivery_time": "1798185600000",
                }
            ],
        }
    ],
    "kraken-futures": [
        {
            "instruments": [
                {"symbol": "PI_XBTUSD", "type": "futures_inverse", "contractSize": 1, "tickSize": 0.5},
                {"symbol": "PF_XBTUSD", "type": "flexible_futures", "contractSize": 1, "tickSize": 1},
            ]
        }
    ],
    "kucoin-futures": [
        {
            "code": "200000",
            "data": [
                {"symbol": "XBTUSDTM", "multiplier": 0.001, "tickSize": 0.1, "lotSize": 1, "expireDate": None},
                {"symbol": "XBTUSDM", "multiplier": -1.0, "tickSize": 0.1, "lotSize": 1, "expireDate": None},
            ],
        }
    ],
    "mexc-futures": [
        {
            "success": True,
            "code": 0,
            "data": [
                {"symbol": "BTC_USDT", "contractSize": 0.0001, "priceUnit": 0.1, "volUnit": 1, "baseCoin": "BTC"},
                {"symbol": "BTC_USD", "contractSize": 100, "priceUnit": 0.1, "volUnit": 1, "baseCoin": "BTC"},
            ],
        }
    ],
    "okx": [
        {
            "code": "0",
            "data": [
                {
                    "instId": "BTC-USDT-SWAP",
                    "instType": "SWAP",
                    "ctType": "linear",
                    "ctVal": "0.01",
                    "ctMult": "1",
                    "ctValCcy": "BTC",
                    "tickSz": "0.1",
                    "lotSz": "0.01",
                    "expTime": "",
                }
            ],
        },
        {"code": "0", "data": [{"instId": "BTC-USD-261225", "ctType": "inverse", "ctVal": "100", "ctMult": "1"}]},
        {"code": "0", "data": [{"instId": "BTC-USD-261225-60000-C", "ctType": "", "ctVal": "1", "ctMult": "0.1"}]},
        {"code": "51000", "msg": "Parameter instFamily error", "data": []},
    ],
}
"""Answers by feed, in the order of its addresses."""
