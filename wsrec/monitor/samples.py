"""Sample messages from files and the fields that a feed's YAML reads from them (`wsrec feeds check`)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.decode.implementation import FieldReader
from wsrec.decode.scalars import EARLIEST, INT64_MAX
from wsrec.feed.errors import ConfigError
from wsrec.feed.instruments import CHANNEL
from wsrec.feed.pings import find_ping
from wsrec.feed.schema import Feed
from wsrec.monitor.acks import AckTracker

_MAX_BYTES = 256 << 20
_PARQUET = b"PAR1"


class Sample(NamedTuple):
    """A message.

    Attributes:
        name: its file, with the number of the line (from 1) or the `seq` of the row.
        payload: the message as it was sent.
        binary: whether it was a binary message.
        is_rest: whether it is a snapshot that was fetched over HTTP; then it has no fields to read.
        channel, symbol: of such a snapshot, those that it was fetched for.

    """

    name: str
    payload: bytes
    binary: bool = False
    is_rest: bool = False
    channel: str | None = None
    symbol: str | None = None


class Reading(NamedTuple):
    """The fields of a message; None where it has none.

    Attributes:
        message: the sample's name.
        channel, symbol: as the exchange writes them.
        exchange_time: ns since the epoch.
        exchange_seq, seq_first, seq_previous: the numbers at the channel's paths of these names.
        role: `answer` to a subscription, `ping` that wsrec answers, or empty.

    """

    message: str
    channel: str | None
    symbol: str | None
    exchange_time: int | None
    exchange_seq: int | None
    seq_first: int | None
    seq_previous: int | None
    role: str = ""

    @property
    def empty(self) -> bool:
        """Whether no field was found, and the message has no role."""
        return not self.role and all(value is None for value in self[1:-1])


def samples_of(file: Path) -> list[Sample]:
    """The messages in a file: one JSON document, one message per line, or the received rows of a capture's Parquet.

    Raises:
        ConfigError: the file cannot be read, or has no messages.

    """
    try:
        if not file.is_file():
            raise ConfigError(f"{file}: found no regular file, expected messages (JSON, or a capture's Parquet)")
        with file.open("rb") as opened:
            begin = opened.read(len(_PARQUET))
            rest = b"" if begin == _PARQUET else opened.read(_MAX_BYTES + 1 - len(begin))
        samples = _rows(file) if begin == _PARQUET else _texts(file, begin + rest)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not samples:
        raise ConfigError(f"{file}: found no messages, expected some")
    return samples


def read_samples(feed: Feed, samples: Sequence[Sample]) -> list[Reading]:
    """The fields of each message by the YAML of `feed`, as if one connection had received them in this order."""
    reader = FieldReader(feed)
    columns = reader.read(
        pa.array([sample.payload for sample in samples], pa.large_binary()),
        np.ones(len(samples), np.bool_),
        None,
        np.array([sample.binary for sample in samples], np.bool_),
    )
    # the last column, `seq_reset`, is never null
    channel, symbol, times, *numbers, _ = (column.to_pylist() for column in columns)
    # a time before 2000 or beyond int64 is wrong, whenever the message was sent
    times = [time if time is not None and EARLIEST < time < INT64_MAX else None for time in times]
    counted = [[None if number is None else int(number) for number in each] for each in numbers]
    values = zip(channel, symbol, times, *counted, strict=True)
    acks = AckTracker(feed)
    return [
        Reading(sample.name, sample.channel, sample.symbol, None, None, None, None)
        if sample.is_rest
        else Reading._make((sample.name, *row, _role(feed, acks, row[0], sample.payload)))
        for sample, row in zip(samples, values, strict=True)
    ]


def _role(feed: Feed, acks: AckTracker, channel: str | None, payload: bytes) -> str:
    """The role of a message without a channel of the feed."""
    if acks.is_data(channel):
        return ""
    if acks.is_answer(payload):
        return "answer"
    pings = feed.keep_alive.answers if feed.keep_alive else ()
    return "ping" if find_ping(pings, payload) is not None else ""


def _texts(file: Path, data: bytes) -> list[Sample]:
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{file}: found more than {_MAX_BYTES >> 20} MiB, expected a few messages")
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        lines = enumerate(data.splitlines(), 1)
        return [Sample(f"{file.name}:{number}", line) for number, line in lines if line.strip()]
    return [Sample(file.name, data)]


def _rows(file: Path) -> list[Sample]:
    samples = []
    # by the bytes of its path, which need not be UTF-8
    with pa.OSFile(os.fsencode(file)) as source, pq.ParquetFile(source) as parquet:
        named = [name for name in ("channel", "symbol") if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(columns=["seq", "direction", "opcode", "text", "data", *named]):
            for row in batch.to_pylist():
                is_rest = row["direction"] == "rest"
                if (is_rest or row["direction"] == "recv") and row["opcode"] in ("text", "binary"):
                    payload = row["data"] if row["text"] is None else row["text"].encode()
                    sample = Sample(f"{file.name}:{row['seq']}", payload, row["opcode"] == "binary")
                    if is_rest:
                        sample = sample._replace(is_rest=True, channel=row.get("channel"), symbol=row.get("symbol"))
                    if sample.channel != CHANNEL:
                        samples.append(sample)
    return samples
