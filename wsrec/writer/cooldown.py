"""Cooldown: an action runs at once, then at growing intervals while it does not help."""

from __future__ import annotations

from collections.abc import Hashable

LEAST_NS = 30_000_000_000
"""Least time between two actions about the same trouble."""

_MOST_NS = 3_600_000_000_000


class Cooldown:
    """When something was last done about each trouble."""

    def __init__(self) -> None:
        self._done: dict[Hashable, tuple[int, int]] = {}

    def due(self, trouble: Hashable, now: int, least_ns: int = LEAST_NS) -> bool:
        """Whether to do something now (ns, any clock); if so it counts as done.

        The distance begins at `least_ns` and doubles up to an hour each time; after twice a distance without a need it
        restarts.
        """
        time, distance = self._done.get(trouble, (now, 0))
        if now < time + distance:
            return False
        again = distance and now < time + 2 * distance
        self._done[trouble] = now, min(distance * 2, _MOST_NS) if again else least_ns
        return True
