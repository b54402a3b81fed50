"""The times that the recorders of `clock_in_machine` recorded, compared with the machine's own. Run it for a table.

machine_files.py OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.conftest import events_of, messages_of
from tests.receive.clock_in_machine import CLOCKS
from wsrec.format.capture import message_files, metadata, open_messages

_SET = 60_000_000_000


class Phase(NamedTuple):
    """What one phase brought; times in ns.

    `certain` is the largest error that no delay explains: a stage before the segment's arrival, or a read after its
    pong's. `likely` adds the shortest time from arrival to EVENT, and from RECV_END to the pong, of the phase of 0 ppm.
    `beyond` counts rows that were certainly off by more than the bound of their time.
    """

    name: str
    rows: int
    bound: int
    certain: int
    likely: int
    beyond: int


class Recording:
    """One recorder's files, and what its sender knows."""

    def __init__(self, out: Path, clock: str) -> None:
        self.out = out / clock
        about = json.loads((out / f"{clock}.json").read_text())
        self.status: int = about["status"]
        self.reported: str = about["output"]
        self.sent: list[tuple[int, int]] = about["stamps"]
        self._phases: list[tuple[str, int]] = about["phases"]
        table = messages_of(self.out)
        text = table.filter(pc.equal(table["opcode"].cast(pa.string()), "text"))
        self.table = text.filter(pc.equal(text["conn"], 0))
        self.over_tls = table.filter(pc.greater(table["conn"], 0))
        anchors = [event["detail"] for event in events_of(self.out, "anchor")]
        self.anchors = sorted(anchors, key=lambda detail: detail["monotonic"])
        self.clocks: list[dict[str, Any]] = []
        self.files = [file for file in message_files([self.out]) if "feed=127.0.0.1" in file.parts]
        for file in self.files:
            with open_messages(file) as parquet:
                self.clocks.append(metadata(parquet)["clock"])

    @property
    def numbers(self) -> list[int]:
        return [int(text) for text in self.table.sort_by("handoff_monotonic")["text"].to_pylist()]

    def phases(self) -> list[Phase]:
        event, read, nic, handoff = (
            self._column(name) for name in ("event_time", "recv_end_time", "nic_time", "handoff_monotonic")
        )
        number = np.array([int(text) for text in self.table["text"].to_pylist()])
        sent, pong = np.array(self.sent, np.int64).T[:, number]
        reported = np.array([anchor["monotonic"] for anchor in self.anchors])
        bounds = np.array([anchor["utc_bound_ns"] for anchor in self.anchors])
        place = np.searchsorted(reported, handoff)
        # rows behind the last anchor have no bound; what the clock was set during has no bracket
        usable = (place < len(reported)) & (pong >= sent) & (pong - sent < _SET)
        bound = bounds[np.minimum(place, len(reported) - 1)]
        begun = [first for _, first in self._phases]
        phase = np.searchsorted(begun, number, side="right") - 1
        early, late = event - nic, pong - read
        still = usable & np.isin(phase, [n for n, (name, _) in enumerate(self._phases) if name == "0 ppm"])
        certain = np.maximum(np.maximum(-early, -late), 0)
        likely = np.maximum(np.maximum(early[still].min() - early, late[still].min() - late), 0)
        found = []
        for n, (name, _) in enumerate(self._phases):
            rows = usable & (phase == n)
            beyond = int((certain[rows] > bound[rows]).sum())
            largest = (int(values[rows].max(initial=0)) for values in (bound, certain, likely))
            found.append(Phase(name, int(rows.sum()), *largest, beyond))
        return found

    def _column(self, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self.table[name].cast(pa.int64()).to_numpy()


def table(recording: Recording) -> str:
    """A recording, as a failing test shows it."""
    lines = [f"{'':>12} {'rows':>6} {'bound us':>14} {'certain us':>14} {'likely us':>14} {'beyond':>6}"]
    for name, rows, *times, beyond in recording.phases():
        lines.append(f"{name:>12} {rows:>6} " + " ".join(f"{time / 1e3:>14,.1f}" for time in times) + f" {beyond:>6}")
    return "\n".join(lines)


if __name__ == "__main__":
    for clock in CLOCKS:
        if not (Path(sys.argv[1]) / clock).exists():
            continue
        recording = Recording(Path(sys.argv[1]), clock)
        print(clock, {about["clock"] for about in recording.clocks}, "status", recording.status)
        print(table(recording))
        print(recording.reported)
