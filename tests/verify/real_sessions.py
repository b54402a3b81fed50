"""Real sessions of exchanges as captures, through the real pipeline: some messages are lost, and there are pauses."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.rings import plan, slot, writer_job
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.format.moment import Moment
from wsrec.plan.connections import ConnectionPlan
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest, planned_topic
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline

FEEDS = {
    "binance": "binance",
    "bitmex": "bitmex",
    "bitstamp": "bitstamp",
    "bybit": "bybit-linear",
    "coinbase": "coinbase",
    "deribit": "deribit",
    "gateio": "gateio",
    "huobi": "htx",
    "kraken": "kraken",
    "kucoin": "kucoin",
    "okx": "okx",
}
S = 1_000_000_000
BOOT = 1_000 * S
_STREAMS = 60
# every so many messages one is lost, and one comes twice
_LOST, _TWICE = 41, 97
_LINE = re.compile(rb"(?:(\S+) )?(<->|<-)? ?([\d.]+)(?:: (.*))?\n")


class RealSession:
    """One session of an exchange, as slots.

    Args:
        path: the session's file.

    """

    def __init__(self, path: Path) -> None:
        self.feed: Feed = find_feed(FEEDS[path.name.partition(".")[0]])
        with gzip.open(path) as lines:
            self._lines = [found.groups() for line in lines if (found := _LINE.fullmatch(line))]
        self._conns: dict[bytes, int] = {}
        self.plans = self._plans()
        self.slots: list[tuple[Any, bytes]] = []
        self._heads: dict[int, int] = {}
        self._play()

    def _topics(self) -> list[RequestedTopic]:
        """The streams that its messages are of."""
        received = [text for _, way, _, text in self._lines if way is None and text]
        columns = FieldReader(self.feed).read(pa.array(received, pa.large_binary()), np.ones(len(received), np.bool_))
        names: dict[str | None, str] = {}
        for full, channel in self.feed.channel_table.items():
            for name in (full, *channel.aliases):
                names.setdefault(name, full)
        pairs = dict.fromkeys(zip(columns.channel.to_pylist(), columns.symbol.to_pylist(), strict=True))
        topics = [planned_topic(self.feed, names[c], s or "").requested for c, s in pairs if c in names]
        return list({topic.topic: topic for topic in topics}.values())[:_STREAMS]

    def _plans(self) -> tuple[ConnectionPlan, ...]:
        urls = dict.fromkeys(url for url, _, _, _ in self._lines if url)
        self._conns = {url: conn for conn, url in enumerate(urls or (b"",))}
        topics = tuple(self._topics())
        plans = []
        for conn in self._conns.values():
            requests = (SubscriptionRequest(number=1, text="", topics=topics),) if topics else ()
            plans.append(plan(conn, self.feed.name, requests=requests))
        return tuple(plans)

    def _play(self) -> None:
        begin, count, pause, last = 0.0, 0, 0, BOOT
        first: set[int] = set()
        conn = 0
        for url, way, time, text in self._lines:
            begin = begin or float(time)
            conn = self._conns.get(url, conn) if url else conn
            moment = max(BOOT + round((float(time) - begin) * 1e9) + pause, last + 1)
            last = moment
            if way == b"<->" or (conn not in first and way is None):
                self._event(moment, EventKind.CONNECT, conn, url="wss://h/s")
            if (way == b"<-" or (way is None and not text)) and conn not in first and self.plans[conn].requests:
                (request,) = self.plans[conn].requests
                self._event(moment + 1, EventKind.SUBSCRIBE, conn, request=1, topics=request.topic_names)
                last = moment + 2
                self._put(last, conn, text or b"", Flag.SENT | Flag.FIN, read_bytes=1)
            elif way == b"<-":
                self._put(moment, conn, text or b"", Flag.SENT | Flag.FIN)
            elif way is None and text:
                count += 1
                for _ in range(0 if not count % _LOST else 2 if not count % _TWICE else 1):
                    self._put(last, conn, text, Flag.FIN | Flag.LAST)
                    last += 1
                if count == 60:
                    # longer than any feed's streams may be idle
                    pause = 400 * S
            first.add(conn)
        self.end = last + 70 * S

    def _event(self, time: int, kind: EventKind, conn: int | None, **detail: Any) -> None:
        payload = Event(kind, conn, detail=detail).encode()
        row = slot(length=len(payload), conn=conn or 0, flags=int(Flag.EVENT | Flag.FIN), handoff=time, event=time)
        self.slots.append((row, payload))

    def _put(self, time: int, conn: int, payload: bytes, flags: int, **more: int) -> None:
        own = bool(flags & Flag.SENT)
        head = self._heads.get(conn, 0) + (0 if own else 2)
        stamps = {} if own else {"event": time - 239, "recv_start": 200, "recv_end": 30, "parsed": 4, "offset": head}
        row = slot(length=len(payload), conn=conn, opcode=TEXT, flags=int(flags), handoff=time, **stamps, **more)
        if not own:
            self._heads[conn] = head + len(payload)
        self.slots.append((row, payload))

    def record(self, out: Path, size: int, files: int = 2) -> None:
        """Write it with the real pipeline, so many slots in a batch, in one or two pairs of files."""
        folder = out / ".wsrec" / "s"
        folder.mkdir(parents=True)
        config = {self.feed.name: self.feed.public_config()}
        pipeline = Pipeline(writer_job(out, self.plans, config), folder, act=lambda _: None)
        pipeline.begin_session(Moment(BOOT, BOOT - 1))
        starts = range(0, len(self.slots), size)
        number = 1
        for start in starts:
            part = self.slots[start : start + size]
            slots = np.array([row for row, _ in part], SLOT_DTYPE)
            payload = pa.array([text for _, text in part], pa.large_binary())
            pipeline.take(Batch(slots, payload, start), number)
            if number < files and start >= len(self.slots) // 2:
                pipeline.finish(1)
                number = 2
        (writer,) = pipeline.feeds.values()
        frames = sum(not int(row["flags"]) & (Flag.EVENT | Flag.SENT) for row, _ in self.slots)
        receiver = {"reads": frames, "frames": frames, "bytes": sum(self._heads.values()), "discarded_bytes": 0}
        rings = RingCounts(len(self.slots), dict(self._heads), {**receiver, "stalls": 0, "finished": True})
        end = Moment(self.end, self.end)
        writer.event(end, EventKind.SESSION_END, **writer.counts.named("rows"), **rings.detail(writer.conns))
        pipeline.finish(number)
        folder.rmdir()
