"""Field extraction: channel, symbol, exchange time and sequence numbers from payloads."""
