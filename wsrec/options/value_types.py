"""Types of option values as users write them: durations, sizes, times of day, lists of processors, shares.

The same type parses a value from the command line, a `WSREC_*` variable or a run config, so the error is the same
everywhere: `found X, expected Y`. `parse` reads the text of `write` back as the same value.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from wsrec.feed.shard import Shard
from wsrec.ring.bytering import MIN_RING

T = TypeVar("T")

AUTO = "auto"
"""As the size of rings: chosen by the number of connections."""

# Arrow's string columns hold 2 GiB a batch
MESSAGE_MOST = 1 << 30
_DURATION_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)"
_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmg]i?|)b?"
# a scheme, RFC 3986 section 3.1
_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]*://"


class ValueType(Generic[T]):
    """The type of an option's value.

    Attributes:
        name: its name in the command line help.
        written: its Python type in JSON and YAML, for the JSON Schema.

    """

    name: str = "text"
    written: Any = str

    def parse(self, text: str) -> T:
        """Parse a text.

        Raises:
            ValueError: it is not valid; the message begins with `expected`.

        """
        raise NotImplementedError

    def parse_yaml(self, value: Any) -> T:
        """Parse a YAML scalar or list.

        Raises:
            ValueError: as for `parse`.

        """
        return self.parse(str(value))

    def write(self, value: T) -> str:
        """Format a value as a text that `parse` reads."""
        return str(value)


class Duration(ValueType[float]):
    """A duration greater than zero, in seconds.

    Args:
        unit_needed: whether a bare number is refused: of an option that destroys, `90` may be meant as days.

    """

    name = "duration"
    written = str | float

    def __init__(self, *, unit_needed: bool = False) -> None:
        self._unit_needed = unit_needed

    def parse(self, text: str) -> float:
        """`10s`, `1h30m`, `250ms`, or a bare number of seconds."""
        if self._unit_needed and text[-1:].isdigit():
            raise ValueError("expected a number with its unit, as in 90d, 12h or 30m")
        seconds = parse_duration(text)
        if not seconds:
            raise ValueError("expected 30s, 10m, 1h30m or 250ms, longer than zero; or omit the option")
        return seconds

    def write(self, value: float) -> str:
        """The duration as a whole number of the largest possible unit."""
        for unit, seconds in _DURATION_UNITS.items():
            count = round(value / seconds, 9)
            if count == int(count) and count:
                return f"{int(count)}{unit}"
        return f"{value:.9f}".rstrip("0") + "s"


class Size(ValueType[int]):
    """A size in bytes.

    Args:
        most: the largest allowed size.

    """

    name = "size"
    written = str | int

    def __init__(self, most: int | None = None) -> None:
        self._most = most

    def parse(self, text: str) -> int:
        """`8MiB`, `512MB`, `64k`, or a bare number of bytes."""
        size = parse_size(text)
        if not size:
            raise ValueError("expected 8MiB, 512MB or a number of bytes, more than zero")
        if self._most is not None and size > self._most:
            raise ValueError(f"expected a size of at most {self.write(self._most)}")
        return size

    def write(self, value: int) -> str:
        """The size as a whole number of the largest possible binary unit."""
        for unit in ("GiB", "MiB", "KiB"):
            size = _SIZE_UNITS[unit[:-1].lower()]
            if value and value % size == 0:
                return f"{value // size}{unit}"
        return f"{value}B"


class RingSize(ValueType["int | None"]):
    """The size of a ring in bytes; None for `auto`."""

    name = "size"
    written = str | int

    def parse(self, text: str) -> int | None:
        """A valid size of a ring, or `auto`."""
        if text.strip().lower() == AUTO:
            return None
        size = parse_size(text)
        if not size:
            raise ValueError(f"expected {AUTO}, 8MiB or a number of bytes, more than zero")
        if size < MIN_RING or size & (size - 1):
            least = Size().write(MIN_RING)
            raise ValueError(f"expected a power of two of at least {least}, as 8MiB or 64MiB")
        return Size(MESSAGE_MOST).parse(text)

    def write(self, value: int | None) -> str:
        """`auto`, or a size."""
        return AUTO if value is None else Size().write(value)


class Rotation(NamedTuple):
    """When a file ends.

    Attributes:
        seconds: longest time span of a file, on full multiples of it since the epoch; files also end with each hour
            (UTC), as the folders do.
        bytes: bytes of payload, as received, after which a file ends.

    """

    seconds: float = 3600.0
    bytes: int = 1 << 30


class RotationType(ValueType[Rotation]):
    """A duration, a size, or both with a comma."""

    name = "duration,size"

    def parse(self, text: str) -> Rotation:
        """Omitted parts have the defaults of `Rotation`."""
        rotation = Rotation()
        found = set()
        for part in map(str.strip, text.split(",")):
            # a bare number could be either
            seconds, size = (None, None) if part.isdigit() else (parse_duration(part), parse_size(part))
            kind = "duration" if seconds else "size"
            if not (seconds or size) or kind in found:
                raise ValueError("expected a duration (15m), a size (512MB) or both, one of each (15m,512MB)")
            found.add(kind)
            rotation = rotation._replace(seconds=seconds) if seconds else rotation._replace(bytes=size or 0)
        return rotation

    def write(self, value: Rotation) -> str:
        """Both."""
        return f"{Duration().write(value.seconds)},{Size().write(value.bytes)}"


class Processors(ValueType["tuple[int, ...]"]):
    """One processor or several."""

    name = "cpu[,cpu...]"
    written = int | str | list[int | str]

    def parse(self, text: str) -> tuple[int, ...]:
        """Numbers with commas between them."""
        parts = [part.strip() for part in text.split(",")]
        plain = all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts)
        if not plain or len(set(parts)) != len(parts):
            raise ValueError("expected processor numbers, as in 2 or 2,3")
        return tuple(map(int, parts))

    def parse_yaml(self, value: Any) -> tuple[int, ...]:
        """A number, a text, or a list of both."""
        return self.parse(",".join(map(str, value)) if isinstance(value, list) else str(value))

    def write(self, value: tuple[int, ...]) -> str:
        """With commas."""
        return ",".join(map(str, value))


class ShardType(ValueType[Shard]):
    """One of several equal shares: `3/16`."""

    name = "number/of"

    def parse(self, text: str) -> Shard:
        """`NUMBER/OF`."""
        return Shard.parse(text)


class Listen(NamedTuple):
    """An address to listen at."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ListenType(ValueType[Listen]):
    """An address to listen at: of this machine alone unless another one is named."""

    name = "[host:]port"
    written = int | str

    def parse(self, text: str) -> Listen:
        """`9464` and `:9464` mean loopback; `0.0.0.0:9464`, `[::1]:9464`."""
        host, _, port = text.rpartition(":")
        bracketed = re.fullmatch(r"\[([0-9a-fA-F:.%]+)\]", host)
        plain = re.fullmatch(r"[A-Za-z0-9._-]*", host)
        if not (bracketed or plain) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ValueError(
                "expected a port of this machine (9464), or an address and a port (10.0.0.5:9464, [::1]:9464)"
            )
        name = bracketed[1] if bracketed else host
        return Listen(name or "127.0.0.1", int(port))


class Number(ValueType[int]):
    """A whole number.

    Args:
        least, most: bounds, included.

    """

    name = "integer"
    written = int

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least = least
        self.most = most


class Choice(ValueType[StrEnum]):
    """One of a few words.

    Args:
        words: the allowed words.

    """

    def __init__(self, words: type[StrEnum]) -> None:
        self.words = words


class Flag(ValueType[bool]):
    """True or false."""

    written = bool


class Names(ValueType["tuple[str, ...]"]):
    """Names: several with commas between them, and the option may be repeated."""

    written = str | list[str]


class Texts(ValueType["tuple[str, ...]"]):
    """Texts to send unchanged; the option may be repeated."""

    written = str | list[str]


class ProxyAddress(ValueType[str]):
    """The address of a proxy (`wsrec.net.proxy`)."""


class SparkMaster(ValueType[str]):
    """The master of an Apache Spark cluster."""

    name = "spark master"

    def parse(self, text: str) -> str:
        """`spark://HOST:PORT`, or another master URL of Spark."""
        if not re.fullmatch(r"spark://\S+:[0-9]+|k8s://\S+|yarn|local(\[([0-9]+|\*)\])?", text):
            raise ValueError("expected the cluster's master, as in spark://host:7077 (or k8s://..., yarn, local[2])")
        return text


class ShellLine(ValueType[str]):
    """A command as a line for the shell."""

    name = "command"

    def parse(self, text: str) -> str:
        """Any text but an empty one, which would do nothing."""
        if not text.strip() or "\0" in text:
            raise ValueError("expected a command, as for sh -c")
        return text


class Folder(ValueType["Any"]):
    """A local folder."""


class File(ValueType[str]):
    """A local file that exists.

    Args:
        expected: its description in messages.

    """

    def __init__(self, expected: str) -> None:
        self.expected = expected


def parse_duration(text: str) -> float | None:
    """Seconds of `10s`, `1h30m`, `250ms`, or a bare number of seconds; None if it is not a duration."""
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        return float(text)
    parts = re.findall(_DURATION, text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def parse_size(text: str) -> int | None:
    """Bytes of `8MiB`, `512MB`, `64k` or a bare number; None if it is not a size."""
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()]) if match else None


def check_path(text: str) -> str:
    """Return the text if it can name a file or folder.

    Raises:
        ValueError: it is empty, which a path would be read as the current folder.

    """
    if not text.strip():
        raise ValueError("expected the name of a file or folder; is a variable unset?")
    return text


def check_local(text: str) -> str:
    """Return the text if it can name a local file or folder.

    Raises:
        ValueError: it is empty, or a URL such as `s3://bucket/x`.

    """
    check_path(text)
    if re.match(_ADDRESS, text):
        raise ValueError(
            "expected a local folder: URLs, such as those of object stores, are not supported; "
            "record into a folder, and copy the finished files there"
        )
    return text


def without_user(text: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//[^/]*@", "//", text)
