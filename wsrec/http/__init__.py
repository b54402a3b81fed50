"""The one HTTP client: tokens, listings and snapshots are asked for by it."""
