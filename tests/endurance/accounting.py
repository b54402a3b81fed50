"""What of a pulse a recording holds, what it lacks, and whether `wsrec verify` claims more than there is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from tests.endurance.pulse import SYMBOLS, PulseExchange, payload

_COLUMNS = ["conn", "direction", "opcode", "symbol", "exchange_seq", "recv_time", "text"]


class Run(NamedTuple):
    """Numbers without a row, from `first` to `last`, and when their neighbours came (ns since the epoch)."""

    first: int
    last: int
    before: int
    after: int


class Account(NamedTuple):
    """One output folder, held against the exchange that it recorded.

    Attributes:
        first, last: number of the first and last message that is there.
        recorded: different messages that are there.
        twice: rows beyond that: messages that two connections brought.
        missing: what lies between first and last and is not there.
        wrong: rows whose payload is not what the exchange sent.
        claimed: missing runs within an interval that verify calls complete.
        verdict: what `wsrec verify --json` said.

    """

    first: int
    last: int
    recorded: int
    twice: int
    missing: list[Run]
    wrong: int
    claimed: list[Run]
    verdict: dict[str, Any]

    @property
    def lost(self) -> int:
        return sum(run.last - run.first + 1 for run in self.missing)

    @property
    def unsound(self) -> list[str]:
        """What verify found damaged or contradictory."""
        return [
            f"{finding['where']}: {finding['what']}"
            for capture in self.verdict["captures"]
            for finding in capture["findings"]
            if finding["kind"] in ("damaged", "contradiction")
        ]


def account(out: Path, exchange: PulseExchange, *, payloads: bool = True) -> Account:
    """Read an output folder back.

    Args:
        out: the folder; its sessions must be over and recovered.
        exchange: what it recorded.
        payloads: whether to compare every byte.

    """
    numbers, times, wrong = _rows(out, exchange, payloads)
    verdict = verify(out)
    if not len(numbers):
        return Account(0, -1, 0, 0, [], wrong, [], verdict)
    order = np.lexsort((times, numbers))
    numbers, times = numbers[order], times[order]
    different = np.concatenate(([True], np.diff(numbers) > 0))
    unique, came = numbers[different], times[different]
    holes = np.flatnonzero(np.diff(unique) > 1)
    missing = [
        Run(int(unique[hole]) + 1, int(unique[hole + 1]) - 1, int(came[hole]), int(came[hole + 1])) for hole in holes
    ]
    sound = [
        (interval["from"], interval["to"])
        for capture in verdict["captures"]
        for session in capture["sessions"]
        for stream in session["streams"]
        if stream["channel"] == "trade"
        for interval in stream["intervals"]
        if interval["state"] in ("proved", "unbroken")
    ]
    claimed = [run for run in missing if any(start <= run.before and run.after <= end for start, end in sound)]
    return Account(
        int(unique[0]), int(unique[-1]), len(unique), len(numbers) - len(unique), missing, wrong, claimed, verdict
    )


def verify(out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wsrec", "verify", str(out), "--json"], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def _rows(out: Path, exchange: PulseExchange, payloads: bool) -> tuple[Any, Any, int]:
    numbers, times, wrong = [], [], 0
    place = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    for path in sorted((out / "messages").rglob("*.parquet")):
        for table in pq.ParquetFile(path).iter_batches(1 << 18, columns=_COLUMNS):
            directions, channels = table["direction"].to_pylist(), table["exchange_seq"].is_valid()
            rows = np.flatnonzero(channels.to_numpy(zero_copy_only=False) & (np.array(directions) == "recv"))
            if not len(rows):
                continue
            taken = table.take(rows)
            symbols = taken["symbol"].dictionary_decode().to_pylist()
            found = taken["exchange_seq"].to_numpy() * len(SYMBOLS) + np.array([place[s] for s in symbols])
            numbers.append(found)
            times.append(taken["recv_time"].cast("int64").to_numpy())
            if payloads:
                texts = taken["text"].to_pylist()
                wrong += sum(
                    text.encode() != payload(number, exchange.began, exchange.rate)
                    for number, text in zip(found.tolist(), texts, strict=True)
                )
    if not numbers:
        return np.array([], np.int64), np.array([], np.int64), wrong
    return np.concatenate(numbers), np.concatenate(times), wrong
