"""Names of columns other than wsrec's own (`--names`)."""

TARDIS_NAMES = {
    "feed": "exchange",
    "recv_time": "local_timestamp",
    "exchange_time": "timestamp",
    "trade_id": "id",
    "liquidation_id": "id",
    "size": "amount",
    "bid_size": "bid_amount",
    "ask_size": "ask_amount",
    "bid_sizes": "bid_amounts",
    "ask_sizes": "ask_amounts",
    "next_funding_time": "funding_timestamp",
}
"""tardis.dev's names of columns, for `--names tardis`; the others keep theirs."""
