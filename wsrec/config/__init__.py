"""Options and run configs: what a user writes, typed."""
