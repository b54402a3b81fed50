"""The slowest frames: of all, and of each step of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import structs

from wsrec.arrays import values
from wsrec.format.columns import times
from wsrec.histogram import Int64s
from wsrec.pictures.model import SlowFrame
from wsrec.pictures.time_steps import Placed
from wsrec.stages import STEPS

COLUMNS = (
    *("recv_time", "seq", "conn", "channel", "symbol", "opcode", "read_bytes", "frame_in_read", "frames_in_read"),
    *(step.key for step in STEPS),
)
"""What `SlowFrames.add` needs of a batch."""

OF_ALL = 50
"""Frames that are kept of all."""
OF_STEP = 3
"""Frames that are kept of each step of time."""

Rows = npt.NDArray[np.intp]


class SlowFrames:
    """The slowest frames of one total."""

    def __init__(self) -> None:
        self._level = 0
        self._of_all: list[SlowFrame] = []
        self._of_step: dict[int, list[SlowFrame]] = {}

    def add(
        self,
        batch: Any,
        placed: Placed,
        rows: Rows | None,
        total: Int64s,
        column: npt.NDArray[np.integer],
        cells: Int64s,
        session: str,
        file: str,
    ) -> None:
        """Keep those of a batch that are among the slowest.

        Args:
            batch: of `COLUMNS`.
            placed: where its rows are.
            rows: those that count, ascending; None: all.
            total: of each that counts (ns).
            column: of each that counts, the bucket of its total.
            cells: how many there are in each step, by bucket.
            session, file: of the batch.

        """
        self._coarsen(placed.level)
        place = placed.place if rows is None else placed.place[rows]
        time, seq = times(batch, "recv_time")[0], values(batch.column("seq"))
        if rows is not None:
            time, seq = time[rows], seq[rows]
        order = _Order(total, time, seq)
        # the bucket of each step's third slowest: few rows lie in it or beyond
        from_above = np.cumsum(cells[:, ::-1], axis=1)
        enough = from_above[:, -1] >= OF_STEP
        bound = np.where(enough, cells.shape[1] - 1 - np.argmax(from_above >= OF_STEP, axis=1), 0)
        of_step = order.slowest(np.flatnonzero(column >= (bound[0] if len(bound) == 1 else bound[place])), place)
        of_all = order.slowest_of_all(self._of_all[-1].total if len(self._of_all) == OF_ALL else None)
        wanted = np.union1d(of_step, of_all)
        found = _frames(batch, wanted if rows is None else rows[wanted], total[wanted], session, file)
        frames = dict(zip(wanted.tolist(), found, strict=True))
        self._of_all = _sorted([*self._of_all, *(frames[row] for row in of_all.tolist())], OF_ALL)
        for step, row in zip(placed.steps[place[of_step]].tolist(), of_step.tolist(), strict=True):
            self._of_step[step] = _sorted([*self._of_step.get(step, ()), frames[row]], OF_STEP)

    def merge(self, other: SlowFrames, level: int) -> None:
        """Keep those of another that are among the slowest, in steps of a level that is not below that of either."""
        self._coarsen(level)
        other._coarsen(level)
        self._of_all = _sorted([*self._of_all, *other._of_all], OF_ALL)
        for step, frames in other._of_step.items():
            self._of_step[step] = _sorted([*self._of_step.get(step, ()), *frames], OF_STEP)

    def _coarsen(self, level: int) -> None:
        by = level - self._level
        if by <= 0:
            return
        of_step: dict[int, list[SlowFrame]] = {}
        for step, frames in self._of_step.items():
            of_step.setdefault(step >> by, []).extend(frames)
        self._of_step = {step: _sorted(frames, OF_STEP) for step, frames in of_step.items()}
        self._level = level

    def of_all(self) -> list[SlowFrame]:
        """The slowest of all, the slowest first."""
        return self._of_all

    def by_step(self, level: int) -> dict[int, list[SlowFrame]]:
        """The slowest of each step, the slowest first, at a level not below that of what was added."""
        self._coarsen(level)
        return self._of_step


def _order(frame: SlowFrame) -> tuple[int, int, str, int]:
    return -frame.total, frame.time, frame.session, frame.seq


def _sorted(frames: list[SlowFrame], most: int) -> list[SlowFrame]:
    return sorted(frames, key=_order)[:most]


class _Order(NamedTuple):
    """Frames of one session, each before those that are faster, or later."""

    total: Int64s
    time: Int64s
    seq: npt.NDArray[np.uint64]

    def slowest(self, rows: Rows, place: Rows) -> Rows:
        """The slowest of each place, of these rows."""
        order = rows[np.lexsort((self.seq[rows], self.time[rows], -self.total[rows], place[rows]))]
        begins = np.flatnonzero(np.diff(place[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
        return order[rank < OF_STEP]

    def slowest_of_all(self, bound: int | None) -> Rows:
        """The slowest; `bound`: a faster one is none of them."""
        rows = np.arange(len(self.total)) if bound is None else np.flatnonzero(self.total >= bound)
        if len(rows) > OF_ALL:
            rows = rows[self.total[rows] >= np.partition(self.total[rows], len(rows) - OF_ALL)[len(rows) - OF_ALL]]
        return rows[np.lexsort((self.seq[rows], self.time[rows], -self.total[rows]))][:OF_ALL]


def _frames(batch: Any, rows: Rows, total: Int64s, session: str, file: str) -> Iterator[SlowFrame]:
    chosen = batch.select(list(COLUMNS)).take(rows)
    chosen = chosen.set_column(0, "recv_time", chosen.column("recv_time").cast("int64"))
    for row, whole in zip(chosen.to_pylist(), total.tolist(), strict=True):
        yield SlowFrame(
            time=row["recv_time"],
            session=session,
            file=file,
            seq=row["seq"],
            conn=row["conn"],
            channel=row["channel"],
            symbol=row["symbol"],
            opcode=row["opcode"],
            payload_bytes=None,
            read_bytes=row["read_bytes"],
            frame_in_read=row["frame_in_read"],
            frames_in_read=row["frames_in_read"],
            steps=[row[step.key] for step in STEPS],
            total=whole,
        )


def with_payload(frame: SlowFrame, size: int) -> SlowFrame:
    """The frame with the size of its payload (bytes)."""
    return structs.replace(frame, payload_bytes=size)
