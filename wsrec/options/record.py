"""The options of `wsrec record`, declared: a field with its `Option` is all that an option needs beside its use.

A struct says who reads a field: `Selection` is used up by the plan, `RecordOptions` is the supervisor's, and
`WorkerOptions` goes with the jobs to the receivers and writers, which see nothing else of what was given: a secret
does not belong there. Receivers import this, so it must stay quick to import: no pydantic, no click.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from wsrec.feed.shard import Shard
from wsrec.options.option import Option
from wsrec.options.value_types import (
    MESSAGE_MOST,
    Choice,
    Duration,
    File,
    Flag,
    Folder,
    Moment,
    Names,
    Number,
    Processors,
    ProxyAddress,
    RingSize,
    Rotation,
    RotationType,
    ShardType,
    Size,
    Texts,
)


class TlsMode(StrEnum):
    """How TLS is decrypted (docs/stages.md). AUTO chooses one of the others for each connection."""

    AUTO = "auto"
    STAMPED = "stamped"
    KTLS = "ktls"
    OPENSSL = "openssl"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What of the targets is recorded. Empty: what the target itself says."""

    symbols: Annotated[
        tuple[str, ...],
        Option(
            "Symbols, as `BTC/USDT`; `all`: every one that the exchange lists; `@FILE`: those in a file.",
            Names(),
            metavar="SYM,...",
            default="the feed's",
            note="A list, or a text with commas.",
            is_of_feed=True,
        ),
    ] = ()
    channels: Annotated[
        tuple[str, ...],
        Option(
            "`trades`, `book`, `bbo`, `ticker` or the exchange's names.",
            Names(),
            metavar="CH,...",
            default="the feed's",
            note="A list, or a text with commas.",
            is_of_feed=True,
        ),
    ] = ()
    subscribe: Annotated[
        tuple[str, ...],
        Option(
            "URL targets: send this once connected, as it is; it is recorded.",
            Texts(),
            metavar="TEXT",
            note="A text, or a list of them.",
            is_of_feed=True,
        ),
    ] = ()
    shard: Annotated[
        Shard | None, Option("Take one of several equal, stable shares of all symbols: `3/16`.", ShardType())
    ] = None


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How receivers and writers work."""

    until_close: Annotated[
        bool, Option("Stop when the exchange closes normally (code 1000), as replays do.", Flag())
    ] = False
    rotate: Annotated[
        Rotation, Option("When a file ends: a duration, a size, or both. Every hour ends one.", RotationType())
    ] = Rotation()
    writer_cpu: Annotated[int | None, Option("Processor to write on.", Number(0))] = None
    rt_priority: Annotated[int | None, Option("SCHED_FIFO priority of the receivers.", Number(1, 99))] = None
    busy_poll: Annotated[
        bool, Option("Read without pause instead of waiting: quickest, and takes a whole processor.", Flag())
    ] = False
    tls: Annotated[
        TlsMode,
        Option(
            "`stamped`: kernel stamps, decrypted by OpenSSL. `ktls`: decrypted by the kernel, no stamps. `openssl`: "
            "neither. `auto`: stamped where there are stamps, else ktls, else openssl.",
            Choice(TlsMode),
        ),
    ] = TlsMode.STAMPED
    ca_file: Annotated[str | None, Option("PEM file of a CA to trust besides the system's.", File())] = None
    max_message: Annotated[int, Option("Largest message accepted.", Size(MESSAGE_MOST))] = 64 << 20
    batch: Annotated[float, Option("Longest time before a message is journalled.", Duration())] = 0.1
    batch_size: Annotated[int, Option("Bytes that are journalled at once.", Size())] = 8 << 20
    fsync: Annotated[float, Option("Time between two syncs of the journal.", Duration())] = 1.0
    reserve: Annotated[
        int | None,
        Option("Disk space to keep free for others: with less the disk counts as full.", Size(), default="none"),
    ] = None


class RecordOptions(WorkerOptions, frozen=True, kw_only=True):
    """How to record. `proxy` may hold a password."""

    out: Annotated[Path, Option("Folder to record into.", Folder(), short="o")] = Path("captures")
    duration: Annotated[
        float | None, Option("Stop this long after the first connection opened: `30s`, `1h30m`.", Duration())
    ] = None
    until: Annotated[
        datetime | None,
        Option(
            "Stop at this time, UTC: `17:30`, `2026-11-22T17:30:00Z`.",
            Moment(),
            note="A date in quotes.",
            excludes="duration",
        ),
    ] = None
    cpu: Annotated[
        tuple[int, ...],
        Option("Processors to receive on; several: one receiver each.", Processors(), note="`2` or `[2, 3]`."),
    ] = ()
    proxy: Annotated[
        str | None,
        Option(
            "Go through a proxy to everything: `http://HOST:PORT` or `socks5h://HOST:PORT`.",
            ProxyAddress(),
            metavar="URL",
            default="the feed's, or HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            note="With a password: `http://user:${PROXY_PASSWORD}@host:3128`.",
        ),
    ] = None
    no_proxy: Annotated[
        bool,
        Option("No proxy at all, whatever the environment, a feed or a run config say.", Flag(), excludes="proxy"),
    ] = False
    ring_size: Annotated[
        int | None,
        Option(
            "Receive ring of each connection, a power of two of at least 64KiB; `auto`: 8MiB, or less where more than "
            "32 share 256MiB.",
            RingSize(),
            default="auto",
        ),
    ] = None
    takeover: Annotated[
        bool,
        Option(
            "Where a recorder holds the folder: record beside it, end it once all is connected, and go on alone.",
            Flag(),
        ),
    ] = False
    if_free: Annotated[
        bool,
        Option(
            "Where a recorder holds the folder: end at once with status 0 in place of 75, for crontabs.",
            Flag(),
            excludes="takeover",
        ),
    ] = False

    def for_workers(self) -> WorkerOptions:
        """What of them goes with the jobs."""
        return WorkerOptions(**{name: getattr(self, name) for name in WorkerOptions.__struct_fields__})


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What the command prints."""

    json: Annotated[bool, Option("Print the summary, or why nothing started, as one JSON object.", Flag())] = False
    quiet: Annotated[bool, Option("Say nothing unless something is wrong.", Flag(), short="q")] = False


SECTIONS: tuple[type[msgspec.Struct], ...] = (Selection, RecordOptions, Output)
"""All of the options, in the order of `--help`."""
