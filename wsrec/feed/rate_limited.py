"""Whether an exchange's words say that we come too often."""

from __future__ import annotations

import re

_LIMITED = re.compile(
    r"too many|too much|too fast|rate.?limit|limit exceeded|throttl|frequen|\blimit .{0,20}\b(reached|exceeded|hit)\b|"
    r"limit (reached|hit)|\b(429|418)\b",
    re.IGNORECASE,
)


def is_limited(words: str) -> bool:
    """Whether the words of a refusal or of a close are about how often or how much we ask."""
    return _LIMITED.search(words) is not None
