"""How wrong the UTC of stages 2 to 6 may be.

A row is mapped by the anchor before it (`Pipeline`), and the next anchor shows by how much UTC had moved against the
stage clock until then: by a slew that the stage clock follows one anchor later, or by a step. No row between the two is
off by more than that, as long as UTC moved one way. What moved in the interval before is added: the stage clock may be
taking back the beginning of one slew while another begins.
"""

from __future__ import annotations

from typing import NamedTuple


class _Mapping(NamedTuple):
    offset: int
    width: int


class UtcBound:
    """The bound of each interval between two anchors."""

    def __init__(self) -> None:
        self._before: _Mapping | None = None
        self._moved = 0

    def add(self, stage: int, realtime: int, width: int) -> tuple[int, int]:
        """An anchor, in order of happening (ns).

        Returns:
            How far UTC was moved against the stage clock since the anchor before, and by how much the UTC of the rows
            since then may be off.

        """
        before, self._before = self._before, _Mapping(realtime - stage, width)
        if before is None:
            # rows before the first anchor are mapped by it
            return 0, width
        moved = abs(self._before.offset - before.offset)
        bound = moved + self._moved + width + before.width
        self._moved = moved
        return moved, bound
