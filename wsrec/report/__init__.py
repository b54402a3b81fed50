"""Latency and completeness of a capture, to terminal and JSON."""
