"""Captures of books, through the real pipeline: messages of several connections, fetched snapshots, and events."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.rings import plan, slot, writer_job
from tests.tables.recorded import BOOT, USDM, _event_slot
from wsrec.feed.schema import Feed
from wsrec.format.moment import Moment
from wsrec.plan.requests import SubscriptionRequest, planned_topic
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import WHOLE_SNAPSHOT, Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline


class Received(NamedTuple):
    """A message: when it came (ns since the epoch), its text, and on which connection."""

    time: int
    text: bytes
    conn: int = 0


class Fetched(NamedTuple):
    """A snapshot that was fetched over HTTP for the first topic of the first connection."""

    time: int
    text: bytes


class Happened(NamedTuple):
    """An event of a connection."""

    time: int
    kind: EventKind
    detail: dict[str, Any]
    conn: int = 0


Entry = Received | Fetched | Happened


def opened(time: int, topics: Iterable[str] = (), conn: int = 0) -> list[Entry]:
    """A connection is opened, and topics are requested."""
    asked = {"request": 1, "topics": list(topics)}
    return [Happened(time, EventKind.CONNECT, {"url": "u"}, conn), Happened(time, EventKind.SUBSCRIBE, asked, conn)]


def closed(time: int, conn: int = 0, message: str = "") -> Entry:
    """A connection is closed in order; with a message it broke."""
    return Happened(time, EventKind.DISCONNECT, {"message": message, "received_bytes": 1, "discarded_bytes": 0}, conn)


def record(
    out: Path,
    feed: Feed,
    entries: Iterable[Entry],
    channel: str,
    symbols: Iterable[str],
    conns: int = 1,
    files: int = 1,
    session: str = "s",
) -> None:
    """Write a session of what came, in order of time.

    Args:
        out: the output folder.
        feed: the feed.
        entries: what came.
        channel, symbols: the topics that each connection requests.
        conns: number of connections; later ones take turns with the first.
        files: number of pairs of files.
        session: the session's id.

    """
    topics = tuple(planned_topic(feed, channel, symbol).requested for symbol in symbols)
    request = SubscriptionRequest(number=1, text="", topics=topics)
    plans = tuple(plan(n, feed.name, requests=(request,), standby_of=0 if n else None) for n in range(conns))
    listed = sorted(entries, key=lambda each: each.time)
    start, folder = listed[0].time - 100, out / ".wsrec" / session
    folder.mkdir(parents=True)
    job = writer_job(out, plans, {feed.name: feed.public_config()}, session=session)
    pipeline = Pipeline(job, folder, act=lambda _: None)
    pipeline.begin_session(Moment(start, BOOT))
    ends = (start + 1, listed[-1].time + 1_000)
    anchors = [
        Happened(
            time,
            EventKind.ANCHOR,
            {"monotonic": time - start + BOOT, "realtime": time, "width_ns": 50, "clock": "TSC", "drift_ns": 0},
        )
        for time in ends
    ]
    heads, part, last, first = [2] * conns, list[tuple[Any, bytes]](), BOOT, 0
    number, most = 1, min(4_000, -(-len(listed) // files))
    for entry in (anchors[0], *listed, anchors[1], None):
        fetched = isinstance(entry, Fetched)
        if part and (entry is None or fetched or len(part) >= most):
            pipeline.take(_batch(part, first), number)
            first, part = first + len(part), []
            if number < files and first >= len(listed) * number // files:
                pipeline.finish(number)
                number += 1
        if entry is None:
            break
        last = max(entry.time - start + BOOT, last + 1)
        if isinstance(entry, Fetched):
            flags = int(WHOLE_SNAPSHOT)
            row = slot(length=len(entry.text), conn=0, opcode=TEXT, flags=flags, handoff=last, event=last)
            pipeline.take(_batch([(row, entry.text)], first), number)
        elif isinstance(entry, Happened):
            conn = None if entry.kind is EventKind.ANCHOR else entry.conn
            payload = Event(entry.kind, conn, detail=entry.detail).encode()
            part.append((_event_slot(payload, last), payload))
        else:
            stamps = {"event": last - 230, "recv_start": 200, "recv_end": 30, "offset": heads[entry.conn]}
            flags = int(Flag.FIN | Flag.LAST)
            about = {"conn": entry.conn, "opcode": TEXT, "flags": flags, "handoff": last}
            part.append((slot(length=len(entry.text), **about, **stamps), entry.text))
            heads[entry.conn] += 2 + len(entry.text)
    (writer,) = pipeline.feeds.values()
    rings = RingCounts(first, dict(enumerate(heads)), {"stalls": 0, "finished": True})
    totals = {**writer.counts.named("rows"), **rings.detail(writer.conns)}
    writer.event(Moment(ends[1], last + 1), EventKind.SESSION_END, **totals)
    pipeline.finish(number)
    folder.rmdir()


def _batch(part: list[tuple[Any, bytes]], first: int) -> Batch:
    rows = np.array([row for row, _ in part], SLOT_DTYPE)
    return Batch(rows, pa.array([text for _, text in part], pa.large_binary()), first)


def usdm_entries() -> Iterator[Received | Fetched]:
    """The depth messages of the Binance USD-M recording, with its fetched snapshot."""
    with gzip.open(USDM) as file:
        for line in file:
            time, _, text = line.rstrip(b"\n").partition(b" ")
            if b'"depthUpdate"' in text:
                yield Received(int(time), text)
            elif not text.startswith(b'{"stream"'):
                yield Fetched(int(time), text)


def usdm_feed(find: Any) -> Feed:
    """The USD-M feed, recorded with its snapshots."""
    config = find("binance-usdm").fetching_snapshots(wanted=True).model_dump(mode="json", exclude_defaults=True)
    return Feed.model_validate({**config, "name": "usdm-with-snapshots"})
