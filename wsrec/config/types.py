"""Option types: durations, times of day, sizes, lists of processors and shares, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from wsrec.config.settings import (
    Rotation,
    check_folder,
    parse_cpus,
    parse_duration,
    parse_ring_size,
    parse_rotation,
    parse_size,
    parse_until,
    without_user,
)
from wsrec.feed.shard import Shard

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    # click below 8.5 takes no type argument
    _ParamType = click.ParamType


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
        moment = parse_until(text)
        if moment is None:
            self.fail(
                f"{text!r} is no time: write 17:30 or 2026-11-22T17:30:00Z (UTC unless it says otherwise)", param, ctx
            )
        if moment <= now:
            self.fail(f"{text} has passed (it is {now:%Y-%m-%dT%H:%M:%SZ})", param, ctx)
        return moment


class RingSizeType(_ParamType):
    """The size of a ring in bytes; None for `auto`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Parse, or fail with what was expected."""
        try:
            return parse_ring_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
        rotation = parse_rotation(str(value))
        if rotation is None:
            self.fail(f"{value!r}: write a duration (15m), a size (512MB) or both (15m,512MB)", param, ctx)
        return rotation


class CpusType(_ParamType):
    """One processor or several, a receiver each."""

    name = "cpu[,cpu...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        cpus = parse_cpus(str(value))
        if cpus is None:
            self.fail(f"{value!r}: write processor numbers, as in 2 or 2,3", param, ctx)
        return cpus


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


class FolderType(click.Path):
    """A file or a folder of this machine; an address is refused. Arguments as of `click.Path`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check, or fail with what was expected."""
        _local(self, value, param, ctx)
        return super().convert(value, param, ctx)


class SourceType(_ParamType):
    """A file, a folder or a pattern of them, on this machine."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check, or fail with what was expected."""
        _local(self, value, param, ctx)
        return str(value)


def _local(kind: _ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> None:
    if not isinstance(value, str):
        return
    try:
        check_folder(value)
    except ValueError as error:
        kind.fail(f"{without_user(value)!r}: {error}", param, ctx)


def comma_list(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for a repeatable option whose values may each be several, separated by commas.

    Raises:
        click.BadParameter: the option is given without a single item.

    """
    given = [[item for item in map(str.strip, text.split(",")) if item] for text in value]
    # an unset variable of a script ("$SYMBOLS") must not quietly become the feed's defaults, nor fewer symbols
    if not all(given):
        raise click.BadParameter("it is given but empty; name at least one, or leave the option out", ctx, param)
    return tuple(item for items in given for item in items)
