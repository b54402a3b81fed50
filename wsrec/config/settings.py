"""A recording's settings as people write them, on the command line and in run configs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from wsrec.receive.hotpath import MIN_RING

# Arrow's string columns hold 2 GiB a batch
_MOST = 1 << 30
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)")
_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmg]i?|)b?", re.IGNORECASE)

# as the size of rings: what the number of connections allows
AUTO = "auto"

# a scheme as RFC 3986 section 3.1 has it
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"//[^/]*@")


class Rotation(NamedTuple):
    """When a file ends: after so many seconds, or so many bytes."""

    seconds: float
    bytes: int


def parse_duration(text: str) -> float | None:
    """Seconds of `10s`, `1h30m`, `250ms`, or a bare number of seconds; None where it is no duration."""
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def parse_size(text: str) -> int | None:
    """Bytes of `8MiB`, `512MB`, `64k` or a bare number; None where it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()]) if match else None


def parse_rotation(text: str) -> Rotation | None:
    """A duration, a size, or both with a comma; None where it is neither."""
    seconds, size = 3600.0, 1 << 30
    for part in text.split(","):
        duration = parse_duration(part.strip()) if not part.strip().isdigit() else None
        if duration:
            seconds = duration
        elif parsed := parse_size(part) if not part.strip().isdigit() else None:
            size = parsed
        else:
            return None
    return Rotation(seconds, size)


def parse_until(text: str) -> datetime | None:
    """`HH:MM[:SS]` (UTC, the next one) or an ISO date and time (UTC unless it says otherwise); or None."""
    now = datetime.now(UTC)
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?Z?", text):
            hour, rest = text.rstrip("Z").split(":", 1)
            moment = datetime.fromisoformat(f"{now:%Y-%m-%d}T{hour:0>2}:{rest}+00:00")
            return moment if moment > now else moment + timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_cpus(text: str) -> tuple[int, ...] | None:
    """Processor numbers with commas between them; None where it is no such thing."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts) or len(set(parts)) != len(parts):
        return None
    return tuple(map(int, parts))


def check_folder(text: str) -> str:
    """The same, where it can name a file or a folder of this machine.

    Raises:
        ValueError: it is an address, as `s3://bucket/x`; the text says what was expected.

    """
    if _ADDRESS.match(text):
        raise ValueError(
            "expected a folder of this machine: addresses are not supported, object stores included; "
            "record into a folder, and copy the finished files there"
        )
    return text


def without_user(text: str) -> str:
    """An address without its user part, which may hold a secret."""
    return _USER.sub("//", text)


def check_message_size(size: int) -> int:
    """The same.

    Raises:
        ValueError: it is more than a message may have; the text says what was expected.

    """
    if size > _MOST:
        raise ValueError("at most 1GiB")
    return size


def parse_ring_size(text: str) -> int | None:
    """A size in bytes; None for `auto`.

    Raises:
        ValueError: it is neither, or no ring may have this size; the text says what was expected.

    """
    if text.strip().lower() == AUTO:
        return None
    size = parse_size(text)
    if not size:
        raise ValueError(f"{text!r} is no size: write {AUTO}, 8MiB or a number of bytes")
    return check_ring_size(size)


def check_ring_size(size: int) -> int:
    """The same.

    Raises:
        ValueError: no ring may have this size; the text says what was expected.

    """
    if size < MIN_RING or size & (size - 1):
        raise ValueError(f"a ring's size is a power of two of at least {MIN_RING >> 10}KiB; write 8MiB or 64MiB")
    return check_message_size(size)
