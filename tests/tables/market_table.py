"""What the tables make of all real messages beside the project, market by market: rows, and what makes none and why.

    python -m tests.tables.market_table

prints it as a Markdown table.
"""

from __future__ import annotations

import ast
import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tests.feed.catalogue_page import ENVELOPES, MESSAGES
from tests.feeds import parse_feed
from tests.real_messages import DATA
from tests.tables.recorded import USDM, session_messages
from tests.tables.test_old_bybit import FEED as BYBIT_V2
from tests.verify.real_sessions import FEEDS
from wsrec.decode.packed import json_of
from wsrec.decode.table_blocks import Messages
from wsrec.decode.table_implementation import TableReader
from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.monitor.samples import Sample, read_samples
from wsrec.tables.schema import table_schema

SCHEMAS = {table: table_schema(table) for table in Table if table is not Table.GAPS}


class Made(NamedTuple):
    """What the messages of one source make.

    Attributes:
        feed: the feed that reads them.
        source: `session`, `messages` or `recording`.
        messages: how many there are.
        makers: how many of them make rows.
        rows: how many rows, by table.
        none: why others make none, or parts of them: how many times, by reason.

    """

    feed: str
    source: str
    messages: int
    makers: int
    rows: dict[Table, int]
    none: dict[str, int]


def everything() -> Iterator[Made]:
    """All real messages: the sessions, the single messages of today, and the recording of USD-M."""
    yield from sessions_and_messages()
    # its snapshot from REST is no streamed message
    yield made(find_feed("binance-usdm"), "recording", list(_usdm_samples()))


def sessions_and_messages() -> Iterator[Made]:
    """The same without the recording, which tests/tables/test_usdm_recording.py holds against a reading of its own."""
    for name, feed in sorted(FEEDS.items()):
        yield _session(name, find_feed(feed))
    yield _session("bybit", parse_feed(BYBIT_V2.encode(), "bybit-v2.yaml"))
    yield from (_single(name) for name in catalogue() if _files(name))


def markdown(found: Sequence[Made]) -> str:
    """A table with a line for each source of each market."""
    tables = [table for table in SCHEMAS if any(table in each.rows for each in found)]
    lines = [["market", "source", "messages", "make rows", *map(str, tables), "make none, or parts of them"]]
    lines.append(["---"] * len(lines[0]))
    for each in found:
        why = "; ".join(f"{count:,} {reason}" for reason, count in sorted(each.none.items()))
        counts = [f"{each.rows[table]:,}" if table in each.rows else "" for table in tables]
        lines.append([each.feed, each.source, f"{each.messages:,}", f"{each.makers:,}", *counts, why])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def made(feed: Feed, source: str, samples: Sequence[Sample]) -> Made:
    """What messages make, as if one connection had received them in this order."""
    readings = read_samples(feed, samples)
    payload = pa.array([sample.payload for sample in samples], pa.large_binary())
    if feed.fields is not None:
        binary = np.array([sample.binary for sample in samples], np.bool_)
        payload, _ = json_of(feed.fields, payload, np.ones(len(samples), np.bool_), binary)
    symbols = pa.array([reading.symbol for reading in readings], pa.string())
    reader = TableReader(feed, SCHEMAS)
    makers: set[int] = set()
    rows: Counter[Table] = Counter()
    none: Counter[str] = Counter()
    channels: dict[tuple[str, bool], list[int]] = {}
    for index, (sample, reading) in enumerate(zip(samples, readings, strict=True)):
        if reading.channel in feed.channel_by_any_name:
            channels.setdefault((str(reading.channel), sample.is_rest), []).append(index)
        else:
            none[f"{reading.role}: of no channel" if reading.role else _of_none(reading.channel)] += 1
    conns = np.zeros(len(samples), np.int64)
    for (channel, is_rest), indices in channels.items():
        chosen = np.array(indices, np.int64)
        blocks, left_out = reader.read(Messages(payload, chosen, channel, is_rest, symbols, conns))
        for block in blocks:
            rows[block.table] += len(block.message)
            makers.update(block.message.tolist())
        none.update(f"{channel}: {f'{each.table}: ' if each.table else ''}{each.reason}" for each in left_out)
        silent = len(set(indices) - makers - {each.message for each in left_out})
        if silent:
            none[f"{channel}: says nothing of its tables"] += silent
    return Made(feed.name, source, len(samples), len(makers), dict(rows), dict(none))


def _of_none(channel: str | None) -> str:
    """Channels of old APIs bear numbers and symbols in their names."""
    return f"of no channel: {re.sub(r'[0-9]+', 'N', channel) if channel else 'without a name'}"


def _session(name: str, feed: Feed) -> Made:
    """Messages that were not text are noted as Python's bytes."""
    samples = []
    for _, text in session_messages(name):
        is_binary = text[:2] in (b"b'", b'b"')
        samples.append(Sample(name, ast.literal_eval(text.decode()) if is_binary else text, is_binary))
    return made(feed, "session", samples)


def _files(feed: str) -> list[Path]:
    """Messages that are kept of the exchange; the folder's own name, or what its feeds' names begin with."""
    folders = [path for path in MESSAGES.iterdir() if feed == path.name or feed.startswith(f"{path.name}-")]
    return sorted(file for folder in folders for file in folder.glob("*.json"))


def _single(name: str) -> Made:
    feed = find_feed(name)
    samples = []
    for path in _files(name):
        envelope = ENVELOPES.get(f"{path.parent.name}/{path.stem}", "%s")
        samples.append(Sample(path.stem, (envelope % path.read_text()).encode()))
    return made(feed, "messages", samples)


def _usdm_samples() -> Iterator[Sample]:
    with gzip.open(USDM) as file:
        for line in file:
            text = line.rstrip(b"\n").partition(b" ")[2]
            if text.startswith(b'{"stream"'):
                yield Sample(USDM.name, text)
            else:
                yield Sample(USDM.name, text, is_rest=True, channel="depth@0ms", symbol="BTCUSDT")


if __name__ == "__main__":
    assert DATA.exists()
    print(markdown(list(everything())))
