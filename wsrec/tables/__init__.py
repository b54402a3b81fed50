"""Tables from a capture: trades, quotes, books and more, each row traceable to its message."""
