"""A payload becomes channel, symbol, exchange time and sequence numbers."""
