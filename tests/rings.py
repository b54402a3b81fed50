"""The receiver's side of the rings, for tests of the writer's: puts frames, own words and events into shared memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from wsrec.options.record import WorkerOptions
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.mirror import PAGE
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.stages import StampSource
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch, Drain, payload_list
from wsrec.writer.job import FeedJob, WriterJob

HEADER = 2


class Rings:
    """Rings of some connections, with both their ends."""

    def __init__(self, conns: int = 1, capacity: int = PAGE, slots: int = PAGE // 64) -> None:
        self.fds = [SlotRing.create("test-slots", slots), ByteRing.create("test-control", PAGE)]
        self.fds += [StatusPage.create("test-status", conns)]
        self.fds += [ByteRing.create("test-ring", capacity) for _ in range(conns)]
        self.slots, self.control_ring, self.status = (
            SlotRing(self.fds[0]),
            ByteRing(self.fds[1]),
            StatusPage(self.fds[2]),
        )
        self.rings = {conn: ByteRing(fd) for conn, fd in enumerate(self.fds[3:])}
        self.producer = Producer(self.slots, self.control_ring)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def drain(self) -> Drain:
        return Drain(self.slots, self.rings, self.control_ring)

    def room(self, conn: int) -> int:
        ring = self.rings[conn]
        return ring.room(ring.head.read()) - HEADER

    def put(
        self,
        payload: bytes,
        conn: int = 0,
        opcode: int = TEXT,
        flags: int = Flag.FIN,
        *,
        last: bool = True,
        **fields: Any,
    ) -> None:
        """What the hot path does with one frame: header and payload in the ring, and a slot."""
        ring, count = self.rings[conn], self.producer.count
        head = ring.head.read()
        assert ring.room(head) >= HEADER + len(payload)
        assert self.slots.free(count) > 0
        ring.slice(head, HEADER + len(payload))[:] = b"hh" + payload
        ring.head.publish(head + HEADER + len(payload))
        row = self.slots.run(count, count + 1)
        bits = int(flags) | (Flag.LAST if last else 0)
        row[0] = slot(offset=head + HEADER, length=len(payload), conn=conn, opcode=opcode, flags=bits, **fields)
        self.producer.count = count + 1
        self.slots.published.publish(count + 1)

    def event(self, kind: EventKind, conn: int | None = None, **detail: Any) -> None:
        self.producer.event(kind, conn=conn, **detail)


def slot(**fields: Any) -> Any:
    """One slot; what is not given is 0."""
    row = np.zeros(1, SLOT_DTYPE)
    row["source"] = StampSource.NONE_ABSENT
    for name, value in fields.items():
        row[name] = value
    return row[0]


def payloads(batch: Batch) -> list[bytes]:
    return [bytes(view) for view in payload_list(batch.payload)]


def plan(conn: int = 0, feed: str = "f", **more: Any) -> ConnectionPlan:
    return ConnectionPlan(conn=conn, feed=feed, url="wss://h/s?token=SECRET", public_url="wss://h/s", **more)


def writer_job(out: Any, connections: tuple[ConnectionPlan, ...], feeds: dict[str, Any], **more: Any) -> WriterJob:
    """A writer's job; `feeds` is configuration by name."""
    return WriterJob(
        **{
            "session": "s",
            "out": str(out),
            "slots": -1,
            "rings": (),
            "control_ring": -1,
            "status": -1,
            "connections": connections,
            "feeds": tuple(FeedJob(name=name, config=config) for name, config in feeds.items()),
            **worker_options(more),
            **more,
        }
    )


def worker_options(fields: dict[str, Any]) -> dict[str, Any]:
    """The argument `options` of a job, made of those of `fields` that are options, which are taken out."""
    names = fields.keys() & {*WorkerOptions.__struct_fields__}
    return {"options": WorkerOptions(**{name: fields.pop(name) for name in names})}


@pytest.fixture
def rings() -> Iterator[Callable[..., Rings]]:
    made: list[Rings] = []

    def make(*arguments: int, **options: int) -> Rings:
        made.append(Rings(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
