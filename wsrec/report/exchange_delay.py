"""The delay of an exchange's messages: `recv_time` less `exchange_time`, by channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wsrec.format.columns import times, words
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

    def add(self, delay: Int64s, exchange_time: Int64s) -> None:
        self.delays.add(delay)
        while self.resolution > 1 and (exchange_time % self.resolution).any():
            self.resolution //= 1000

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
    """The delays of one feed on one host, by channel; beyond a limit of channels the others are merged."""

    def __init__(self) -> None:
        self._delays: dict[str | None, _Delays] = {}

    def add(self, batch: Any, recv_time: Int64s) -> None:
        """Count the received rows of a batch that have an exchange time."""
        exchange_time, known = times(batch, "exchange_time")
        if not known.any():
            return
        channel, channels = words(batch, "channel")
        groups: dict[str | None, int] = {}
        group_of = np.zeros(len(channels), np.int64)
        for code in np.unique(channel[known]).tolist():
            name = channels[code]
            if name not in self._delays and len(self._delays) >= _CHANNELS:
                name = _OTHER_CHANNELS
            self._delays.setdefault(name, _Delays())
            group_of[code] = groups.setdefault(name, len(groups))
        group, delay = group_of[channel], recv_time - exchange_time
        for name, number in groups.items():
            rows = known & (group == number) if len(groups) > 1 else known
            self._delays[name].add(delay[rows], exchange_time[rows])

    def result(self) -> Delay | None:
        """The delay over all channels."""
        everything = _Delays()
        for delays in self._delays.values():
            everything.merge(delays)
        return everything.result(None)

    def by_channel(self) -> list[Delay]:
        """The delay of each channel, by descending count."""
        found = [delays.result(channel) for channel, delays in self._delays.items()]
        return sorted((delay for delay in found if delay is not None), key=lambda delay: -delay.count)


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
