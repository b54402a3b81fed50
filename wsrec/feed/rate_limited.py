"""Detection of rate-limit wording in an exchange's messages."""

from __future__ import annotations

import re

_LIMITED = re.compile(
    r"too many|too much|too fast|rate.?limit|limit exceeded|throttl|frequen|\blimit .{0,20}\b(reached|exceeded|hit)\b|"
    r"limit (reached|hit)|\b(429|418)\b",
    re.IGNORECASE,
)


def is_limited(words: str) -> bool:
    """True if the text of a refusal or close reason is about too many requests or too much data."""
    return _LIMITED.search(words) is not None
