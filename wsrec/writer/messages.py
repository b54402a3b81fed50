"""Complete messages of a batch, the events between them, and the moments of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import where_set
from wsrec.format.moment import Moment
from wsrec.ring.events import Event
from wsrec.ring.slot_flags import FLAG_EVENT, FLAG_RSV1
from wsrec.writer.batch import payload_list, payload_offsets
from wsrec.writer.gather import Slots
from wsrec.writer.inflate import Refused
from wsrec.writer.ledger import Inflated
from wsrec.writer.rows import Int64s


class Messages(NamedTuple):
    """Complete inflated messages, the offsets of their stamps to UTC, and the events between them.

    Attributes:
        slots, offset, payload: of each message.
        happened: the events among them, each with its row.
        refused: messages that stay compressed.

    """

    slots: Slots
    offset: Int64s
    payload: pa.Array
    happened: list[tuple[int, Event]]
    refused: list[Refused]

    def part(self, start: int, stop: int) -> Messages:
        """Those of these rows."""
        return Messages(
            self.slots[start:stop],
            self.offset[start:stop],
            self.payload[start:stop],
            [(row - start, event) for row, event in self.happened if start <= row < stop],
            [each._replace(row=each.row - start) for each in self.refused if start <= each.row < stop],
        )


def between(
    slots: Slots, offset: Int64s, payload: pa.Array, stops: list[int], start: int
) -> tuple[Slots, Int64s, pa.Array]:
    """The rows from `start` to the last stop, without the slots at the other stops."""
    edges = zip([start, *(stop + 1 for stop in stops[:-1])], stops, strict=True)
    parts = [slice(begin, end) for begin, end in edges if end > begin] or [slice(start, start)]
    if len(parts) == 1:
        return slots[parts[0]], offset[parts[0]], payload[parts[0]]
    # as this type a slot is copied whole, not field by field
    whole = slots.view(np.dtype((np.void, slots.dtype.itemsize)))
    return (
        np.concatenate([whole[part] for part in parts]).view(slots.dtype),
        np.concatenate([offset[part] for part in parts]),
        pa.concat_arrays([payload[part] for part in parts]),
    )


def interval(start: Moment, end: Moment) -> dict[str, int]:
    """Detail of an event about an interval: in UTC, and on the stage clock if its ends are known there."""
    detail = {"from": start.utc, "to": end.utc, "duration_ns": end.utc - start.utc}
    if start.stage is not None:
        detail["monotonic_from"] = start.stage
        if end.stage is not None:
            detail |= {"monotonic_to": end.stage, "duration_ns": end.stage - start.stage}
    return detail


def handed_off(slots: Slots, offset: Int64s, row: int) -> Moment:
    """The time of a message's hand-off."""
    stage = int(slots["handoff"][row])
    return Moment(stage + int(offset[row]), stage)


def arrived(slots: Slots, offset: Int64s, row: int) -> Moment:
    """The time of a message's arrival."""
    stage = int(slots["event"][row]) or int(slots["handoff"][row])
    return Moment(stage + int(offset[row]), stage)


def moment_of(slots: Slots, offset: Int64s, row: int) -> Moment:
    """The time of an event, and its place in the order of hand-off, which may be later."""
    stage = int(slots["handoff"][row])
    return Moment((int(slots["event"][row]) or stage) + int(offset[row]), stage)


def changes_of(before: tuple[Slots, pa.Array], after: tuple[Slots, pa.Array]) -> Inflated:
    """The changes that `inflate` made to slots and payloads."""
    rows = np.flatnonzero(before[0]["flags"] & ~after[0]["flags"] & FLAG_RSV1)
    sizes = [np.diff(payload_offsets(payload))[rows] for _, payload in (before, after)]
    return Inflated(after[0]["conn"][rows], *sizes)


def events_of(slots: Slots, payload: pa.Array) -> list[tuple[int, Event]]:
    """The events among slots, each with its row."""
    rows = where_set(slots["flags"] & FLAG_EVENT)
    if not len(rows):
        return []
    return list(zip(rows.tolist(), map(Event.decode, payload_list(payload, rows)), strict=True))
