"""Captures read back: what of them is sound, and which intervals of each stream are provably complete."""
