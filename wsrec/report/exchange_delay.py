"""The delay of an exchange's messages: `recv_time` less `exchange_time`, by channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, known, values
from wsrec.format.columns import words
from wsrec.format.grouped import add_between
from wsrec.histogram import Int64s
from wsrec.report.model import Delay
from wsrec.report.signed import SignedHistogram
from wsrec.units import duration

_CHANNELS = 256
_OTHER_CHANNELS = "(other channels)"
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND


class _Delays:
    """Signed delays of one channel, and the resolution of its exchange times."""

    def __init__(self) -> None:
        self.delays = SignedHistogram()
        self.resolution = _SECOND

    def merge(self, other: _Delays) -> None:
        self.delays.merge(other.delays)
        self.resolution = min(self.resolution, other.resolution)

    def result(self, channel: str | None) -> Delay | None:
        delays = self.delays
        low, high, p50, p99 = delays.min, delays.max, delays.quantile(0.5), delays.quantile(0.99)
        if low is None or high is None or p50 is None or p99 is None:
            return None
        return Delay(
            channel=channel,
            count=delays.count,
            negative=delays.negative,
            resolution=self.resolution,
            min=low,
            p50=p50,
            p99=p99,
            max=high,
        )


class ExchangeDelays:
    """The delays of one feed on one host, by channel.

    Beyond a limit channels are merged: all but the first ones by name, so that the order of files does not matter.
    """

    def __init__(self) -> None:
        self._delays: dict[str | None, _Delays] = {}
        self._others = _Delays()

    def add(self, batch: Any, recv_time: Int64s, received: Flags | None) -> None:
        """Count the received rows of a batch that have an exchange time; `received` None: all were received."""
        column = batch.column("exchange_time")
        timed = known(column) if column.null_count else None
        counted = timed if received is None else received if timed is None else timed & received
        if counted is not None and not counted.any():
            return
        channel, channels = words(batch, "channel")
        used = np.bincount(channel if counted is None else channel[counted]).nonzero()[0].tolist()
        self._keep({channels[code] for code in used})
        found = [self._others, *self._delays.values()]
        number_of = {name: number for number, name in enumerate(self._delays, 1)}
        group_of = np.zeros(len(channels), np.uint16)
        for code in used:
            group_of[code] = number_of.get(channels[code], 0)
        resolution = np.array([each.resolution for each in found])
        exchange_time = values(column.view(pa.int64()))
        add_between(
            [each.delays.above for each in found],
            [each.delays.below for each in found],
            exchange_time,
            recv_time,
            channel,
            group_of,
            counted,
            resolution,
        )
        for each, lowest in zip(found, resolution.tolist(), strict=True):
            each.resolution = lowest

    def _keep(self, names: Iterable[str | None]) -> None:
        """Have an entry for each of these channels that is within the limit, and none beyond it."""
        every = sorted({*self._delays, *names}, key=lambda name: (name is not None, name or ""))
        for name in every[_CHANNELS:]:
            beyond = self._delays.pop(name, None)
            if beyond is not None:
                self._others.merge(beyond)
        for name in every[:_CHANNELS]:
            self._delays.setdefault(name, _Delays())

    def merge(self, other: ExchangeDelays) -> None:
        """Add the delays of another."""
        self._keep(other._delays)
        self._others.merge(other._others)
        for name, delays in other._delays.items():
            self._delays.get(name, self._others).merge(delays)

    def result(self) -> Delay | None:
        """The delay over all channels."""
        everything = _Delays()
        for delays in (self._others, *self._delays.values()):
            everything.merge(delays)
        return everything.result(None)

    def histograms(self) -> tuple[list[tuple[str | None, SignedHistogram]], SignedHistogram]:
        """The delays of each channel, and those of all that are merged because of the limit."""
        return [(name, delays.delays) for name, delays in self._delays.items()], self._others.delays

    def by_channel(self) -> list[Delay]:
        """The delay of each channel, by descending count."""
        found = [delays.result(name) for name, delays in [*self._delays.items(), (_OTHER_CHANNELS, self._others)]]
        there = [delay for delay in found if delay is not None]
        return sorted(there, key=lambda delay: (-delay.count, delay.channel is not None, delay.channel or ""))


def delay_warnings(delay: Delay | None) -> Iterator[str]:
    """Warnings about implausible delays."""
    if delay is None:
        return
    if abs(delay.p50) >= _DAY:
        yield (
            f"the exchange time is {duration(abs(delay.p50))} away from the receive time (p50): "
            "check the unit of the feed's exchange_time, and the local clock"
        )
    elif delay.p50 < -delay.resolution:
        yield (
            f"the local clock runs {duration(-delay.p50)} behind the exchange's (p50), or the exchange's is ahead: "
            "check chrony/PTP"
        )
    elif delay.min < -delay.resolution:
        yield (
            f"{delay.negative:,} of {delay.count:,} messages arrived before their exchange time, by up to "
            f"{duration(-delay.min)}: the local clock was behind, or the exchange's was ahead; check chrony/PTP"
        )
