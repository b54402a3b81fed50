"""Captures of an exchange that numbers its messages, acknowledges, and misbehaves on request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Wsrec
from tests.exchange import Exchange
from tests.rings import plan, slot, writer_job
from wsrec.feed.schema import Feed
from wsrec.format import layout, manifest
from wsrec.format.moment import Moment
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.feed_writer import FeedWriter
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline

BOOT = 1_000_000_000_000
# 2026-11-22T13:20:00 UTC
OFFSET = 1_795_353_600_000_000_000 - BOOT

FEED = """
name: mine
description: numbered trades, a book without numbers, and a channel that is always quiet
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: capital letters, example: AB}}
default_symbols: [AB, CD]
subscribe: {{message: '{{"topics":{{topics}},"id":{{id}}}}', batch: 100}}
limits: {{streams_per_connection: 100, messages_per_second: 100, connects: 100, connects_interval: 1}}
ack: {{id: id, error_code: [error], error_message: [message], timeout: 20}}
fields: {{channel: [c], symbol: [s], exchange_time: [t], time_tolerance: 3e9}}
channels:
  trade: {{topic: "trade.{{symbol}}", default: true, exchange_seq: [n], sequence: next}}
  book: {{topic: "book.{{symbol}}", default: true}}
  quiet: {{topic: "quiet.{{symbol}}", default: true}}
"""


class Numbered:
    """An exchange: confirms, then sends trades and books of each symbol.

    Args:
        rounds: how many of each.
        skip: numbers that are left out.
        breaks: how many connections break off in the middle.
        refuse: whether the subscription is refused.
        confirm: whether it is answered at all.
        pause: seconds between two rounds.
        padding: bytes by which each message of a book is longer.

    """

    def __init__(self, rounds: int = 300, skip: tuple[int, ...] = (), breaks: int = 0, **options: Any) -> None:
        self.rounds, self.skip, self.breaks = rounds, skip, breaks
        self.refuse, self.confirm = options.get("refuse", False), options.get("confirm", True)
        self.pause = options.get("pause", 0.0)
        self.padding = "x" * options.get("padding", 0)

    async def __call__(self, connection) -> None:
        requested = json.loads(await connection.recv())
        if self.confirm:
            stated = {"error": 7, "message": "no such \x1b[2Jtopic"} if self.refuse else {}
            await connection.send(json.dumps({"id": requested["id"], **stated}))
        for number in range(self.rounds):
            for symbol in ("AB", "CD"):
                if number not in self.skip:
                    await connection.send(json.dumps({"c": "trade", "s": symbol, "n": number, "t": 1_795_000_000_000}))
                padding = {"x": self.padding} if self.padding else {}
                await connection.send(json.dumps({"c": "book", "s": symbol, **padding}))
            if self.pause:
                await asyncio.sleep(self.pause)
            if self.breaks and number == self.rounds // 2:
                self.breaks -= 1
                connection.transport.abort()
                return


Record = Callable[..., Path]


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Records an exchange with the real command until it closes; returns the output folder."""

    def run(exchange: Numbered, *arguments: object, status: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("numbered")
        server = Exchange(exchange)
        server.start()
        try:
            yaml = folder / "mine.yaml"
            yaml.write_text(FEED.format(url=server.url))
            out = folder / "out"
            result = Wsrec().run("record", yaml, "--until-close", "--out", out, "--quiet", *arguments)
            assert result.returncode == status, result.stderr
            return out
        finally:
            server.stop()

    return run


@pytest.fixture(scope="session")
def untouched(record: Record) -> Path:
    """A complete capture of several files: its ring holds half of what comes, so that it takes several batches."""
    # time decides where files end: the last one may have nothing but the close
    for _ in range(5):
        out = record(Numbered(400, padding=150), "--rotate", "20kB", "--batch", "20ms", "--ring-size", "64KiB")
        if len(list((out / "messages").rglob("*.parquet"))) > 1 and lines_of(out)[-1]["messages"]:
            return out
    raise AssertionError("no recording ended with a file of messages")


@pytest.fixture
def out(untouched: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(untouched, tmp_path / "out"))


def message_paths(out: Path) -> list[Path]:
    return sorted((out / "messages").rglob("*.parquet"))


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(line) for line in manifest.read(out)]


def write_lines(out: Path, lines: list[dict[str, Any]]) -> None:
    layout.manifest_path(out).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def forge(out: Path, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a file with other rows, and the manifest with its checksum and size: as good as a forger can."""
    table = change(pq.ParquetFile(path).read())
    path.unlink()
    pq.write_table(table, path)
    lines = lines_of(out)
    for line in lines:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if line["path"] == str(path.relative_to(out)):
            line["sha256"], line["bytes"] = digest, path.stat().st_size
        elif line["events_path"] == str(path.relative_to(out)):
            line["events_sha256"], line["events"] = digest, len(table)
    write_lines(out, lines)


def write_capture(
    out: Path,
    feed: Feed,
    messages: Sequence[bytes],
    lost: range = range(0),
) -> FeedWriter:
    """Write a capture of these messages of one connection with the real pipeline; what its writer counted.

    Those of `lost` are in an unreadable part of the journal.
    """
    times = BOOT + 1_000_000 * np.arange(1, len(messages) + 3)
    anchor = {"monotonic": BOOT, "realtime": BOOT + OFFSET, "width_ns": 50, "clock": "TSC", "drift_ns": 0}
    events = [Event(EventKind.ANCHOR, None, detail=anchor), Event(EventKind.CONNECT, 0, detail={"url": "wss://h/s"})]
    payloads = [*(event.encode() for event in events), *messages]
    slots = np.zeros(len(payloads), SLOT_DTYPE)
    head = 0
    for row, payload in enumerate(payloads):
        own = row < len(events)
        head += 0 if own else len(payload) + 2
        slots[row] = slot(
            offset=0 if own else head - len(payload),
            length=len(payload),
            opcode=0 if own else TEXT,
            flags=Flag.EVENT | Flag.FIN if own else Flag.FIN | Flag.LAST,
            handoff=times[row],
            event=0 if own else times[row] - 10,
        )
    folder = out / ".wsrec" / "s"
    folder.mkdir(parents=True)
    config = feed.public_config()
    pipeline = Pipeline(writer_job(out, (plan(feed=feed.name),), {feed.name: config}), folder, act=lambda _: None)
    pipeline.begin_session(Moment(int(times[0]) + OFFSET, int(times[0])))
    missing = range(lost.start + len(events), lost.stop + len(events))
    for first, stop in pairwise(sorted({*range(0, len(slots), 1000), missing.start, missing.stop, len(slots)})):
        if first not in missing:
            part = slice(first, stop)
            pipeline.take(Batch(slots[part], pa.array(payloads[part], pa.large_binary()), first), 1)
    writer = pipeline.feeds[feed.name]
    receiver = {"reads": len(messages), "frames": len(messages), "bytes": head, "discarded_bytes": 0, "stalls": 0}
    rings = RingCounts(len(slots), {0: head}, {**receiver, "finished": True})
    counted = writer.counts.named("rows")
    end = Moment(int(times[-1]) + OFFSET + 1_000_000, int(times[-1]) + 1_000_000)
    writer.event(end, EventKind.SESSION_END, **counted, **rings.detail([0]))
    pipeline.finish(1)
    folder.rmdir()
    return writer
