"""WebSocket pings where a feed says nothing of them: apart from the schema, for processes without pydantic."""

PING_INTERVAL, PING_TIMEOUT = 20.0, 10.0
"""Seconds without a byte before a ping goes out, and seconds that its answer may take."""
