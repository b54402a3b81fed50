"""Declarations of the options of `wsrec record`: to add an option, add a field with its `Option`, and use it.

The struct decides who reads a field: `Selection` is for the plan, `RecordOptions` for the supervisor, and
`WorkerOptions` is sent to the receivers and writers with their jobs. They get no other options, so no secret belongs
there. Receivers import this module, so it must stay quick to import: no pydantic, no click.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from wsrec.feed.shard import Shard
from wsrec.options.option import Option
from wsrec.options.time_types import Moment
from wsrec.options.value_types import (
    MESSAGE_MOST,
    Choice,
    Duration,
    File,
    Flag,
    Folder,
    Listen,
    ListenType,
    Names,
    Number,
    Processors,
    ProxyAddress,
    RingSize,
    Rotation,
    RotationType,
    ShardType,
    ShellLine,
    Size,
    Texts,
)


class TlsMode(StrEnum):
    """How TLS is decrypted (docs/explanation/stages.md). AUTO chooses one of the others for each connection."""

    AUTO = "auto"
    DIRECT = "direct"
    STAMPED = "stamped"
    KTLS = "ktls"
    OPENSSL = "openssl"


class WaitStrategy(StrEnum):
    """How a receiver waits for its sockets (docs/how-to/tuning.md)."""

    EPOLL = "epoll"
    SPIN = "spin"
    ADAPTIVE = "adaptive"


class InstrumentsMode(StrEnum):
    """Which feeds' listings of instruments are fetched."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class SnapshotsMode(StrEnum):
    """Which channels' snapshots are fetched over HTTP."""

    AUTO = "auto"
    START = "start"
    NEVER = "never"


class LogFormat(StrEnum):
    """The form of log lines on standard error (docs/reference/exit-status.md)."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which symbols and channels of the targets are recorded; an empty field means the target's own default."""

    symbols: Annotated[
        tuple[str, ...],
        Option(
            "Symbols such as `BTC/USDT`; `all`: every symbol that the exchange lists; `@FILE`: those in a file.",
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
            "`trades`, `book`, `bbo`, `ticker`, or the exchange's own names.",
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
            "URL targets: message to send unchanged once connected; it is recorded.",
            Texts(),
            metavar="TEXT",
            note="A text, or a list of them.",
            is_of_feed=True,
        ),
    ] = ()
    shard: Annotated[
        Shard | None, Option("Record one of several stable, equal shares of the symbols: `3/16`.", ShardType())
    ] = None


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How receivers and writers work."""

    until_close: Annotated[
        bool, Option("Stop when the exchange closes normally (code 1000), as replays do.", Flag())
    ] = False
    rotate: Annotated[
        Rotation,
        Option(
            "Start a new file after a duration, a size of its messages as received, or both; also at every full hour.",
            RotationType(),
        ),
    ] = Rotation()
    rt_priority: Annotated[int | None, Option("SCHED_FIFO priority of the receivers.", Number(1, 99))] = None
    wait: Annotated[
        WaitStrategy,
        Option(
            "How receivers wait for data. `epoll`: asleep until the kernel reports it. `spin`: never, they read the "
            "sockets without pause: lowest latency, but takes a whole processor. `adaptive`: they spin for 200 us "
            "after data, then sleep.",
            Choice(WaitStrategy),
        ),
    ] = WaitStrategy.EPOLL
    tls: Annotated[
        TlsMode | None,
        Option(
            "`direct`: wsrec decrypts record by record, with kernel timestamps; where that cannot be, as `stamped`: "
            "OpenSSL decrypts, with kernel timestamps. `ktls`: the kernel decrypts, without timestamps. `openssl`: "
            "OpenSSL reads by itself, without timestamps. `auto`: direct if the kernel gives timestamps, else ktls, "
            "else openssl.",
            Choice(TlsMode),
            default="direct",
        ),
    ] = None
    segments: Annotated[
        bool,
        Option(
            "Capture each TCP segment beside the sockets: stage 1 of a message is then the arrival of its own last "
            "byte, in every TLS mode. Needs CAP_NET_RAW (docs/how-to/segments.md).",
            Flag(),
        ),
    ] = False
    ca_file: Annotated[
        str | None, Option("PEM file of a CA to trust in addition to the system's.", File("a CA's PEM file"))
    ] = None
    max_message: Annotated[int, Option("Largest message accepted.", Size(MESSAGE_MOST))] = 64 << 20
    batch: Annotated[float, Option("Longest time until a message is journalled.", Duration())] = 0.1
    batch_size: Annotated[int, Option("Journal messages sooner once they have this many bytes.", Size())] = 8 << 20
    fsync: Annotated[float, Option("Time between two syncs of the journal.", Duration())] = 1.0
    reserve: Annotated[
        int | None,
        Option(
            "Disk space to leave free for other programs: with less, the disk counts as full.", Size(), default="none"
        ),
    ] = None


class RecordOptions(WorkerOptions, frozen=True, kw_only=True):
    """How to record. `proxy` may hold a password."""

    out: Annotated[Path, Option("Output folder.", Folder(), short="o")] = Path("captures")
    duration: Annotated[
        float | None, Option("Stop this long after the first connection has opened: `30s`, `1h30m`.", Duration())
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
        Option("Processors to receive on; one receiver is started for each.", Processors(), note="`2` or `[2, 3]`."),
    ] = ()
    writer_cpu: Annotated[
        tuple[int, ...],
        Option(
            "Processors of the writers: one for all, or several, which the receivers' writers take in turn.",
            Processors(),
            note="`4` or `[4, 5]`.",
        ),
    ] = ()
    proxy: Annotated[
        str | None,
        Option(
            "Proxy for all connections: `http://HOST:PORT` or `socks5h://HOST:PORT`.",
            ProxyAddress(),
            metavar="URL",
            default="the feed's, or HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            note="With a password: `http://user:${PROXY_PASSWORD}@host:3128`.",
        ),
    ] = None
    no_proxy: Annotated[
        bool,
        Option("Use no proxy, even if the environment, a feed or a run config sets one.", Flag(), excludes="proxy"),
    ] = False
    ring_size: Annotated[
        int | None,
        Option(
            "Size of each connection's receive ring: a power of two from 64KiB; `auto`: 8MiB, or less if more than "
            "32 connections share 256MiB.",
            RingSize(),
            default="auto",
        ),
    ] = None
    instruments: Annotated[
        InstrumentsMode,
        Option(
            "Record the exchange's listing of instruments, at the start and daily. `auto`: of feeds with sizes in "
            "contracts, which need the contracts' size. `always`: of all feeds that declare one.",
            Choice(InstrumentsMode),
        ),
    ] = InstrumentsMode.AUTO
    snapshots: Annotated[
        SnapshotsMode,
        Option(
            "Fetch whole order books over HTTP. `start`: of all channels that declare how, whenever a subscription "
            "begins and after a gap. `auto`: only where the feed's YAML says so; the feeds included with wsrec do not. "
            "`never`: none.",
            Choice(SnapshotsMode),
        ),
    ] = SnapshotsMode.AUTO
    metrics: Annotated[
        Listen | None,
        Option(
            "Serve metrics for Prometheus, /healthz and /readyz over HTTP here: `9464` on this machine alone, "
            "`HOST:9464` for others, too.",
            ListenType(),
            metavar="[HOST:]PORT",
        ),
    ] = None
    on_file: Annotated[
        str | None,
        Option(
            "Run this by the shell for each finished file: its path, and its line of the manifest, as JSON on standard "
            "input (docs/how-to/hooks.md).",
            ShellLine(),
            metavar="CMD",
        ),
    ] = None
    on_event: Annotated[
        str | None,
        Option(
            "Run this by the shell for each warning and error (a gap, a lost interval, a silent stream, a refused "
            "subscription, a full disk, a restart) and for the end, which is JSON on standard input.",
            ShellLine(),
            metavar="CMD",
        ),
    ] = None
    hook_timeout: Annotated[
        float, Option("Kill a command of --on-file or --on-event that takes longer.", Duration())
    ] = 300.0
    takeover: Annotated[
        bool,
        Option(
            "If a recorder is using the folder: record next to it, stop it once all is connected, and go on alone.",
            Flag(),
        ),
    ] = False
    if_free: Annotated[
        bool,
        Option(
            "If a recorder is using the folder: exit at once with status 0 instead of 75, for crontabs.",
            Flag(),
            excludes="takeover",
        ),
    ] = False

    def for_workers(self) -> WorkerOptions:
        """The options that are sent to the workers."""
        return WorkerOptions(**{name: getattr(self, name) for name in WorkerOptions.__struct_fields__})


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the command's output."""

    json: Annotated[bool, Option("Print the summary, or the error, as one JSON object.", Flag())] = False
    quiet: Annotated[bool, Option("Print nothing unless something is wrong.", Flag(), short="q")] = False
    log_format: Annotated[
        LogFormat | None,
        Option(
            "Form of the log on standard error: `text`; `json`: one object per line; `journal`: with the priorities "
            "that systemd reads.",
            Choice(LogFormat),
            default="journal if standard error is the journal of systemd, else text",
        ),
    ] = None


SECTIONS: tuple[type[msgspec.Struct], ...] = (Selection, RecordOptions, Output)
"""All options, in the order of `--help`."""
