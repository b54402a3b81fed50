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

_COLUMNS = ["conn", "direction", "opcode", "symbol", "exchange_seq", "handoff_time", "text"]


# what was read together is handed off within it, and two receivers put their clocks onto UTC each by itself
SLACK_NS = 20_000_000


class Run(NamedTuple):
    """Numbers without a row, from `first` to `last`.

    Attributes:
        before, after: hand-off of their neighbours, ns since the epoch.
        due: when the last of them was due.

    """

    first: int
    last: int
    before: int
    after: int
    due: int

    @property
    def until(self) -> int:
        """Until when they were sent: anyone who subscribes gets what is due from then on."""
        return min(self.after, max(self.before, self.due))


class Account(NamedTuple):
    """One output folder, held against the exchange that it recorded.

    Attributes:
        first, last: number of the first and last message that is there.
        recorded: different messages that are there.
        twice: rows beyond that: messages that two connections brought.
        missing: what lies between first and last and is not there.
        wrong: rows whose payload is not what the exchange sent.
        claimed: missing runs that reach into an interval that verify calls complete.
        named: intervals that verify calls lost or incomplete, merged (ns since the epoch).
        recorded_in: the time of which verify says anything, merged.
        verdict: the output of `wsrec verify --json`.

    """

    first: int
    last: int
    recorded: int
    twice: int
    missing: list[Run]
    wrong: int
    claimed: list[Run]
    named: list[tuple[int, int]]
    recorded_in: list[tuple[int, int]]
    verdict: dict[str, Any]

    @property
    def lost(self) -> int:
        return sum(run.last - run.first + 1 for run in self.missing)

    def silent(self, exchange: PulseExchange, cut: int) -> int:
        """How many messages are missing without a word of verify.

        What was sent before `cut` (ns since the epoch) must be in an interval that verify names, what was sent later
        there or outside of every session.

        """
        return sum(self._silent(run, exchange.number_at(cut), cut) for run in self.missing)

    def _silent(self, run: Run, first_after: int, cut: int) -> int:
        before = max(min(run.last + 1, first_after) - run.first, 0)
        later = run.last + 1 - run.first - before
        reported = not before or any(
            start <= run.before + SLACK_NS and end >= min(run.until, cut) - 1_000_000 for start, end in self.named
        )
        since = max(run.before, cut) if before else run.before
        left = without(without([(since, run.until)], self.named), self._between())
        return (0 if reported else before) + (later if any(end - start > SLACK_NS for start, end in left) else 0)

    def _between(self) -> list[tuple[int, int]]:
        """The time of which verify says nothing: nothing recorded."""
        return without([(0, 1 << 63)], self.recorded_in)

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
        return Account(0, -1, 0, 0, [], wrong, [], [], [], verdict)
    order = np.lexsort((times, numbers))
    numbers, times = numbers[order], times[order]
    different = np.concatenate(([True], np.diff(numbers) > 0))
    unique, came = numbers[different], times[different]
    holes = np.flatnonzero(np.diff(unique) > 1)
    missing = [
        Run(
            int(unique[hole]) + 1,
            int(unique[hole + 1]) - 1,
            int(came[hole]),
            int(came[hole + 1]),
            exchange.began + (int(unique[hole + 1]) - 1) * 1_000_000_000 // exchange.rate,
        )
        for hole in holes
    ]
    sessions = [session for capture in verdict["captures"] for session in capture["sessions"]]
    intervals = [
        i for s in sessions for stream in s["streams"] if stream["channel"] == "trade" for i in stream["intervals"]
    ]
    sound = [(i["start"], i["end"]) for i in intervals if i["state"] in ("proved", "unbroken")]
    claimed = [
        run
        for run in missing
        if any(
            (start <= run.before and run.after <= end) or min(end, run.until) - max(start, run.before) > SLACK_NS
            for start, end in sound
        )
    ]
    lost = [(loss["start"], loss["end"]) for session in sessions for loss in session["losses"]]
    named = merged([*lost, *((i["start"], i["end"]) for i in intervals if i["state"] == "incomplete")])
    # before its first subscription is answered and after its last connection has ended a session promises nothing
    recorded_in = merged([(i["start"], i["end"]) for i in intervals])
    return Account(
        int(unique[0]),
        int(unique[-1]),
        len(unique),
        len(numbers) - len(unique),
        missing,
        wrong,
        claimed,
        named,
        recorded_in,
        verdict,
    )


def merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Their union."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1] + SLACK_NS:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def without(intervals: list[tuple[int, int]], taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of them."""
    for begin, stop in taken:
        intervals = [
            (start, end)
            for first, last in intervals
            for start, end in ((first, min(last, begin)), (max(first, stop), last))
            if start < end
        ]
    return intervals


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
            found = taken["exchange_seq"].cast("int64").to_numpy() * len(SYMBOLS) + np.array(
                [place[s] for s in symbols]
            )
            numbers.append(found)
            times.append(taken["handoff_time"].cast("int64").to_numpy())
            if payloads:
                texts = taken["text"].to_pylist()
                wrong += sum(
                    text.encode() != payload(number, exchange.began, exchange.rate)
                    for number, text in zip(found.tolist(), texts, strict=True)
                )
    if not numbers:
        return np.array([], np.int64), np.array([], np.int64), wrong
    return np.concatenate(numbers), np.concatenate(times), wrong
