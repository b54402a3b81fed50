"""Captures with known stamps, written as the writer would."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stage_columns import STAMPS, stored
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.format.version import FORMAT_VERSION

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC


def message_columns(rows: int, *, seed: int = 1, start: int = START, first_seq: int = 0, spacing: int = 10_000_000):
    """Plain columns of `rows` received messages, about `spacing` ns apart; a fifth of them behind another frame."""
    random = np.random.default_rng(seed)
    nic = start + np.cumsum(random.exponential(spacing, rows).astype(np.int64))
    steps = [
        random.lognormal(mean, sigma, rows).astype(np.int64)
        for mean, sigma in ((9, 0.6), (6, 0.3), (8, 0.4), (5, 0.5), (6, 0.5))
    ]
    stamps = [nic + sum(steps[:count]) for count in range(6)]
    behind = (random.random(rows) < 0.2).astype(np.uint16)
    return {
        "seq": np.arange(first_seq, first_seq + rows, dtype=np.uint64),
        "conn": np.zeros(rows, np.uint16),
        "recv_time": nic,
        "recv_source": ["kernel"] * rows,
        **dict(zip(STAMPS, stamps, strict=True)),
        "handoff_monotonic": stamps[-1] - start,
        "frame_in_read": behind,
        "frames_in_read": behind + 1,
        "read_bytes": np.full(rows, 200, np.uint32),
        "direction": ["recv"] * rows,
        "opcode": ["text"] * rows,
        "request": [None] * rows,
        "channel": [("trade", "depth", "bookTicker")[i % 3] for i in range(rows)],
        "symbol": ["BTCUSDT"] * rows,
        "exchange_time": (nic // 1_000_000 - random.integers(2, 40, rows)) * 1_000_000,
        "exchange_seq": np.arange(rows),
        "text": [
            f'{{"e":"trade","s":"BTCUSDT","t":{i},"p":"{60_000 + i % 977 / 100:.2f}","µ":1}}' for i in range(rows)
        ],
        "data": [None] * rows,
    }


@dataclass
class Capture:
    """A folder that captures are written to."""

    out: Path
    written: int = field(default=0)

    def write(
        self,
        columns: dict[str, Any],
        *,
        feed: str = "binance",
        session: str = "20261122T130000Z-a1",
        host: str = "tokyo1",
        events: list[dict[str, Any]] | None = None,
        row_group_size: int = 10_000,
        gaps: int | None = None,
        **metadata: Any,
    ) -> Path:
        """Write one message file, and the events file beside it where there are events."""
        self.written += 1
        folder = re.sub(r"\W", "_", feed)[:40]
        place = f"feed={folder}/date=2026-11-22/hour=13/{session}-{self.written:06}.parquet"
        columns = stored(columns)
        arrays = [pa.array(columns[f.name]).cast(f.type) for f in MESSAGE_SCHEMA]
        about = {
            "format_version": FORMAT_VERSION,
            "session": session,
            "feed": feed,
            "host": {"name": host},
            "counts": {"gaps": gaps or 0},
            "gaps_checked": gaps is not None,
            "stage1": {},
            "clock": {},
            **metadata,
        }
        encoded = {f"wsrec.{key}": json.dumps(value) for key, value in about.items()}
        path = self.out / "messages" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(arrays, schema=MESSAGE_SCHEMA.with_metadata(encoded))
        pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)
        if events is not None:
            rows = [
                {**dict.fromkeys(EVENT_SCHEMA.names), **event, "detail": json.dumps(event.get("detail", {}))}
                for event in events
            ]
            beside = self.out / "events" / place
            beside.parent.mkdir(parents=True, exist_ok=True)
            kinds = pa.array([row["kind"] for row in rows]).cast(EVENT_SCHEMA.field("kind").type)
            others = {f.name: pa.array([row[f.name] for row in rows], f.type) for f in EVENT_SCHEMA if f.name != "kind"}
            table = pa.table({**others, "kind": kinds}).select(EVENT_SCHEMA.names)
            pq.write_table(table.cast(EVENT_SCHEMA.with_metadata(encoded)), beside)
        return path


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    return Capture(tmp_path / "out")
