"""The order book of a capture: rebuilt from its changes, and what is known of it at each moment."""
