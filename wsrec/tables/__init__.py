"""Tables from a capture: trades, quotes, changes of books and more, each row traceable to its message."""
