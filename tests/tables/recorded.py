"""Captures of known messages, through the real pipeline and without losses."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.real_messages import DATA
from tests.rings import plan, slot, writer_job
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.format.moment import Moment
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest, planned_topic
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline

BOOT = 1_000_000_000_000
USDM = DATA / "binance-usdm-btcusdt-20240808.txt.gz"
_SESSION_LINE = re.compile(rb"([\d.]+): (.*)\n")


def usdm_messages() -> Iterator[tuple[int, bytes]]:
    """Times of arrival (ns since the epoch) and messages of the Binance USD-M recording, but for its REST snapshot."""
    if not USDM.exists():
        pytest.skip(f"real messages are not beside the project: {USDM}")
    with gzip.open(USDM) as file:
        for line in file:
            time, _, text = line.rstrip(b"\n").partition(b" ")
            if text.startswith(b'{"stream"'):
                yield int(time), text


def session_messages(name: str) -> list[tuple[int, bytes]]:
    """The same of a recorded session of an exchange."""
    with gzip.open(DATA / "sessions" / f"{name}.txt.gz") as lines:
        found = [each for line in lines if (each := _SESSION_LINE.fullmatch(line))]
    return [(round(float(each[1]) * 1e9), each[2]) for each in found]


def topics_of(feed: Feed, channels: Sequence[str], symbols: Sequence[str]) -> list[RequestedTopic]:
    """The topics of these channels and symbols."""
    return [planned_topic(feed, channel, symbol).requested for channel in channels for symbol in symbols]


def record(
    out: Path,
    feed_name: str,
    messages: Sequence[tuple[int, bytes]],
    topics: Sequence[RequestedTopic] = (),
    files: int = 1,
    size: int = 4_000,
    session: str = "s",
) -> None:
    """Write messages as one session that received all of them on one connection.

    Args:
        out: the output folder.
        feed_name: a feed of the catalogue.
        messages: times of arrival (ns) and messages.
        topics: the topics that were requested.
        files: number of pairs of files.
        size: slots in a batch.
        session: the session's name.

    """
    feed = find_feed(feed_name)
    requests = (SubscriptionRequest(number=1, text="", topics=tuple(topics)),) if topics else ()
    plans = (plan(0, feed.name, requests=requests),)
    slots, head = _slots(messages, requests)
    folder = out / ".wsrec" / session
    folder.mkdir(parents=True)
    start = messages[0][0]
    pipeline = Pipeline(
        writer_job(out, plans, {feed.name: feed.public_config()}, session=session), folder, act=lambda _: None
    )
    pipeline.begin_session(Moment(start - 1, BOOT - 1))
    number = 1
    for first in range(0, len(slots), size):
        part = slots[first : first + size]
        rows = np.array([row for row, _ in part], SLOT_DTYPE)
        pipeline.take(Batch(rows, pa.array([text for _, text in part], pa.large_binary()), first), number)
        if number < files and first + size >= len(slots) * number // files:
            pipeline.finish(number)
            number += 1
    (writer,) = pipeline.feeds.values()
    counts = {"reads": len(messages), "frames": len(messages), "bytes": head, "discarded_bytes": 0}
    rings = RingCounts(len(slots), {0: head}, {**counts, "stalls": 0, "finished": True})
    end = Moment(messages[-1][0] + 1_000, messages[-1][0] - start + BOOT + 1_000)
    writer.event(end, EventKind.SESSION_END, **writer.counts.named("rows"), **rings.detail(writer.conns))
    pipeline.finish(number)
    folder.rmdir()


def _slots(messages, requests):
    """The slots of a connection that receives these messages, and how many bytes of payload it received."""
    slots, anchors = [], []
    for time in (messages[0][0] - 4, messages[-1][0] + 500):
        clocks = {"monotonic": time - messages[0][0] + BOOT, "realtime": time}
        anchors.append(
            (
                clocks["monotonic"],
                Event(
                    EventKind.ANCHOR, None, detail={**clocks, "width_ns": 50, "clock": "TSC", "drift_ns": 0}
                ).encode(),
            )
        )
    slots.append((_event_slot(anchors[0][1], anchors[0][0]), anchors[0][1]))
    connect = Event(EventKind.CONNECT, 0, detail={"url": "wss://h/s"}).encode()
    slots.append((_event_slot(connect, BOOT - 3), connect))
    for request in requests:
        subscribe = Event(EventKind.SUBSCRIBE, 0, detail={"request": 1, "topics": request.topic_names}).encode()
        slots.append((_event_slot(subscribe, BOOT - 2), subscribe))
    head, last, start = 2, BOOT - 1, messages[0][0]
    for time, text in messages:
        last = max(time - start + BOOT, last + 1)
        stamps = {"event": last - 239, "recv_start": 200, "recv_end": 30, "parsed": 4, "offset": head + 2}
        flags = int(Flag.FIN | Flag.LAST)
        slots.append((slot(length=len(text), conn=0, opcode=TEXT, flags=flags, handoff=last, **stamps), text))
        head += 2 + len(text)
    slots.append((_event_slot(anchors[1][1], max(anchors[1][0], last + 1)), anchors[1][1]))
    return slots, head


def _event_slot(payload: bytes, time: int):
    return slot(length=len(payload), conn=0, flags=int(Flag.EVENT | Flag.FIN), handoff=time, event=time)
