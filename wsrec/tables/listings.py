"""Instruments over time: what the listings stored in a capture say of each symbol, and since when.

A listing holds from the moment it was fetched until the next one; what came before the first one, within seconds of the
recording's start, is read by the first. Without a listing nothing is known, and the columns are null.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from decimal import Context, Decimal, DecimalException
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.decode.instrument_rows import Instrument, InstrumentReader
from wsrec.decode.row_columns import InexactError
from wsrec.feed.instruments import CHANNEL
from wsrec.feed.schema import Feed
from wsrec.format.capture_file import CaptureFile
from wsrec.ring.events import EventKind

Int64s = npt.NDArray[np.int64]

_COLUMNS = ("recv_time", "text", "data")
_AMONG = {"channel": [CHANNEL], "direction": ["rest"]}
_ANSWERS_MAX = 10_000


class _Held(NamedTuple):
    """An instrument as it was since a moment (ns since the epoch)."""

    since: int
    instrument: Instrument


class Listings:
    """The instruments of one feed of one session.

    Args:
        feed: the feed with its `instruments`.
        answers: the listings' answers in order, each with the moment (ns since the epoch) it came.

    """

    def __init__(self, feed: Feed, answers: Iterable[tuple[int, bytes]]) -> None:
        self._held: dict[str, list[_Held]] = {}
        if feed.instruments is None:
            return
        reader = InstrumentReader(feed.instruments)
        for time, answer in answers:
            for instrument in reader.read(answer):
                held = self._held.setdefault(instrument.symbol, [])
                if not held or held[-1].instrument != instrument:
                    held.append(_Held(time, instrument))

    @classmethod
    def of_files(cls, feed: Feed, files: Iterable[CaptureFile]) -> Listings:
        """The instruments that the listings in some of a session's message files name.

        Raises:
            CaptureError: a file is damaged.

        """
        return cls(feed, _answers(files) if feed.instruments is not None else ())

    def __bool__(self) -> bool:
        """Whether any instrument is known."""
        return bool(self._held)

    def at(self, time: int) -> dict[str, Instrument]:
        """The instruments at a moment (ns since the epoch), by symbol."""
        return {symbol: _at(held, time).instrument for symbol, held in self._held.items()}

    def columns(
        self, symbol: pa.DictionaryArray, unit: pa.Array, times: Int64s, kind: pa.DataType
    ) -> dict[str, pa.Array]:
        """The columns `multiplier`, of a type of numbers, and `multiplier_unit` of rows with sizes in contracts.

        Args:
            symbol: the rows' symbols.
            unit: their `size_unit`.
            times: their `recv_time` (ns since the epoch).
            kind: float64 or a decimal.

        Raises:
            InexactError: a multiplier does not fit the decimal type.

        """
        names = symbol.dictionary.to_pylist()
        held = [self._held.get(name, []) for name in names]
        # the place of each symbol's first instrument among all; place 0 has none
        begins = np.concatenate([[1], 1 + np.cumsum([len(each) for each in held])]).astype(np.int64)
        codes = pc.fill_null(symbol.indices, len(names)).to_numpy(zero_copy_only=False).astype(np.int64)
        known = np.array([bool(each) for each in [*held, []]], np.bool_)
        place = np.where(known[codes], begins[codes], 0)
        for code, several in enumerate(held):
            if len(several) > 1:
                rows = np.flatnonzero(codes == code)
                since = np.array([each.since for each in several], np.int64)
                place[rows] += np.maximum(np.searchsorted(since, times[rows], side="right") - 1, 0)
        in_contracts = pc.fill_null(pc.starts_with(unit.cast(pa.string()), "contracts"), False)
        place[~in_contracts.to_numpy(zero_copy_only=False).astype(np.bool_)] = 0
        instruments = [None, *(each.instrument for several in held for each in several)]
        stated = [None if each is None else each.multiplier for each in instruments]
        fitting = [None if each is None else _fitting(each, kind) for each in stated]
        for number in np.unique(place).tolist():
            if fitting[number] is None and stated[number] is not None:
                raise InexactError(int(np.flatnonzero(place == number)[0]), str(stated[number]), kind)
        sizes = pa.array(fitting, kind)
        units = pa.array([None if each is None else each.multiplier_unit for each in instruments], pa.string())
        taken = pa.array(place)
        return {"multiplier": sizes.take(taken), "multiplier_unit": units.take(taken).dictionary_encode()}


def _at(held: list[_Held], time: int) -> _Held:
    return held[max(bisect_right(held, time, key=lambda each: each.since) - 1, 0)]


def _fitting(multiplier: Decimal, kind: pa.DataType) -> float | Decimal | None:
    """A multiplier as a value of a type; None if it does not fit a decimal."""
    if not pa.types.is_decimal(kind):
        return float(multiplier)
    try:
        exact = multiplier.quantize(Decimal(1).scaleb(-kind.scale), context=Context(prec=kind.precision))
    except DecimalException:
        return None
    return exact if exact == multiplier else None


def _answers(files: Iterable[CaptureFile]) -> Iterable[tuple[int, bytes]]:
    left = _ANSWERS_MAX
    for file in files:
        for batch in file.batches(_COLUMNS, among=_AMONG, most=64):
            payload = pc.coalesce(batch.column("text").cast(pa.binary()), batch.column("data"))
            times = batch.column("recv_time").cast(pa.int64()).to_pylist()
            for time, answer in zip(times, payload.to_pylist(), strict=True):
                if left and answer is not None:
                    left -= 1
                    yield time, answer


def has_listing(events: pa.RecordBatch) -> bool:
    """Whether a listing of instruments came, by events with `kind` and `channel`: it is in the messages file beside."""
    of_listings = pc.equal(events["channel"].cast(pa.string()), CHANNEL)
    return bool(
        pc.any(pc.and_(of_listings, pc.equal(events["kind"].cast(pa.string()), EventKind.SNAPSHOT.value))).as_py()
    )
