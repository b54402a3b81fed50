"""Bytes that came more than once, as the consumer of the segment ring remembers them: since when they may have.

Where there are too many, what is between those of a flow counts as repeated, too, from the earliest on: then more is in
doubt than has to be, never less.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Uint64s = npt.NDArray[np.uint64]

NEVER: Final = np.iinfo(np.uint64).max
_MOST: Final = 4096
_DTYPE: Final = np.dtype(
    # keys of the first byte and behind the last one (flow and offset); ns since the epoch; ns, monotonic
    [("start", "<u8"), ("end", "<u8"), ("since", "<u8"), ("seen", "<i8"), ("flow", "<u4")]
)


class Repeats:
    """What came again.

    Args:
        most: how many are told apart.

    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._held: npt.NDArray[Any] = np.empty(0, _DTYPE)
        # where it changes since when the bytes behind may have come again
        self._index: tuple[Uint64s, Uint64s] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, flow: npt.NDArray[np.uint32], start: Uint64s, length: Uint64s, since: Uint64s, now: int) -> None:
        """Bytes came again.

        Args:
            flow: the flow of each run of bytes.
            start: the key of its first byte.
            length: bytes.
            since: when they came again at the earliest, ns since the epoch.
            now: the time (ns, monotonic).

        """
        added = np.empty(len(flow), _DTYPE)
        added["flow"], added["start"], added["end"] = flow, start, start + length
        added["since"], added["seen"] = since, now
        held = np.concatenate([self._held, added])
        self._held = held if len(held) <= self._most else _joined(held)
        self._index = None

    def since(self, byte: Uint64s) -> Uint64s:
        """When bytes (their keys) came again at the earliest, ns since the epoch; `NEVER` if they did not."""
        if not len(self._held):
            return np.full(len(byte), NEVER, np.uint64)
        if self._index is None:
            places = np.unique(np.concatenate([self._held["start"], self._held["end"]]))
            since = np.full(len(places), NEVER, np.uint64)
            # the earliest last, over the others
            held = self._held[np.argsort(self._held["since"])[::-1]]
            firsts, ends = np.searchsorted(places, held["start"]), np.searchsorted(places, held["end"])
            for first, end, value in zip(firsts.tolist(), ends.tolist(), held["since"].tolist(), strict=True):
                since[first:end] = value
            self._index = places, since
        places, since = self._index
        at = np.searchsorted(places, byte, side="right")
        found: Uint64s = np.where(at > 0, since[np.maximum(at - 1, 0)], np.uint64(NEVER))
        return found

    def keep(self, until: Uint64s, seen: int) -> None:
        """Forget what is not needed.

        Args:
            until: of each flow in `flows`: its bytes before this key are not needed.
            seen: what was added before (ns, monotonic) is not.

        """
        kept = (self._held["end"] > until) & (self._held["seen"] >= seen)
        if not kept.all():
            self._held, self._index = self._held[kept], None

    @property
    def flows(self) -> npt.NDArray[np.uint32]:
        """The flow of each run of bytes."""
        flows: npt.NDArray[np.uint32] = self._held["flow"]
        return flows


def _joined(held: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One run of bytes of each flow, over all."""
    flows, of = np.unique(held["flow"], return_inverse=True)
    made = np.zeros(len(flows), _DTYPE)
    made["flow"], made["start"], made["since"] = flows, NEVER, NEVER
    for name, choose in (("start", np.minimum), ("since", np.minimum), ("end", np.maximum), ("seen", np.maximum)):
        choose.at(made[name], of, held[name])
    return made
