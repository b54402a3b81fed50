"""Option types: durations, times of day, sizes, lists of processors and shares, as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wsrec.feed.shard import Shard

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    # click below 8.5 takes no type argument
    _ParamType = click.ParamType

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?|)b?", re.IGNORECASE)


class Rotation(NamedTuple):
    """When a file ends: after so many seconds, or so many bytes."""

    seconds: float
    bytes: int


def parse_duration(text: str) -> float | None:
    """Seconds of `10s`, `1h30m`, `250ms`, or a bare number of seconds; None where it is no duration."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def parse_size(text: str) -> int | None:
    """Bytes of `8MiB`, `512MB`, `64k` or a bare number; None where it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()]) if match else None


class DurationType(_ParamType):
    """A duration greater than zero, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail with what was expected."""
        if isinstance(value, float):
            return value
        seconds = parse_duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration: write 30s, 10m, 1h30m or 250ms", param, ctx)
        if seconds <= 0:
            self.fail("it must be longer than zero; leave the option out to record until stopped", param, ctx)
        return seconds


class UntilType(_ParamType):
    """A time in the future."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse `HH:MM[:SS]` (UTC, the next one) or an ISO date and time (UTC unless it says otherwise)."""
        if isinstance(value, datetime):
            return value
        text, now = str(value), datetime.now(UTC)
        try:
            if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?Z?", text):
                hour, rest = text.rstrip("Z").split(":", 1)
                moment = datetime.fromisoformat(f"{now:%Y-%m-%d}T{hour:0>2}:{rest}+00:00")
                return moment if moment > now else moment + timedelta(days=1)
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is no time: write 17:30 or 2026-11-22T17:30:00Z (UTC unless it says otherwise)", param, ctx
            )
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment <= now:
            self.fail(f"{text} has passed (it is {now:%Y-%m-%dT%H:%M:%SZ})", param, ctx)
        return moment


class SizeType(_ParamType):
    """A size in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse, or fail with what was expected."""
        if isinstance(value, int):
            return value
        size = parse_size(str(value))
        if not size:
            self.fail(f"{value!r} is no size: write 8MiB, 512MB or a number of bytes", param, ctx)
        return size


class RotateType(_ParamType):
    """When a file ends: a duration, a size, or both with a comma."""

    name = "duration,size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rotation:
        """Parse, or fail with what was expected."""
        if isinstance(value, Rotation):
            return value
        seconds, size = 3600.0, 1 << 30
        for part in str(value).split(","):
            duration = parse_duration(part.strip()) if not part.strip().isdigit() else None
            if duration:
                seconds = duration
            elif parsed := parse_size(part) if not part.strip().isdigit() else None:
                size = parsed
            else:
                self.fail(f"{value!r}: write a duration (15m), a size (512MB) or both (15m,512MB)", param, ctx)
        return Rotation(seconds, size)


class CpusType(_ParamType):
    """One processor or several, a receiver each."""

    name = "cpu[,cpu...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts) or len(set(parts)) != len(parts):
            self.fail(f"{value!r}: write processor numbers, as in 2 or 2,3", param, ctx)
        return tuple(map(int, parts))


class ShardType(_ParamType):
    """One of several shares."""

    name = "number/of"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Parse, or fail with what was expected."""
        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
