"""`wsrec record`."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from click.core import ParameterSource

from wsrec.cli.completion import channel_names, open_feed_names, symbol_names
from wsrec.cli.proxy import RUN_PROXY, proxy_options, proxy_rules
from wsrec.config.run_config import load_run
from wsrec.config.settings import AUTO, Rotation, check_message_size
from wsrec.config.types import (
    CpusType,
    DurationType,
    FolderType,
    RingSizeType,
    RotateType,
    ShardType,
    SizeType,
    UntilType,
    comma_list,
)
from wsrec.feed.schema import ConfigError
from wsrec.feed.shard import Shard
from wsrec.format.lock import OutputLockedError
from wsrec.plan.target import Wanted
from wsrec.receive.job import TlsMode
from wsrec.replay.demo import DemoError
from wsrec.supervise.live import View
from wsrec.supervise.outcome import ExitStatus, describe, reason
from wsrec.supervise.outlet import print_result
from wsrec.supervise.record import record as record_targets
from wsrec.supervise.signals import Interrupted, held, interrupt
from wsrec.supervise.supervisor import RecordOptions
from wsrec.units import clean

_AS_JSON = "wsrec.json"


def _message_size(ctx: click.Context, param: click.Parameter, value: int) -> int:
    try:
        return check_message_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _read_targets(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[Wanted, ...]:
    """The targets; those of a run config, whose settings become the defaults of the options."""
    if ctx.resilient_parsing:
        # a shell completes: it wants the names
        return value  # type: ignore[return-value]
    try:
        for target in value:
            run = load_run(Path(target)) if target.endswith((".yaml", ".yml")) else None
            if run is None:
                continue
            if len(value) > 1:
                raise ConfigError(f"{target}: a run config is recorded alone; name the others under its `feeds`")
            names = {option.lstrip("-"): each.name for each in ctx.command.params for option in each.opts}
            ctx.default_map = {names[key]: setting for key, setting in run.settings.items()}
            ctx.meta[RUN_PROXY] = run.proxy_at
            return run.wanted
    except ConfigError as error:
        _fail(str(error), ExitStatus.USAGE, ctx.meta[_AS_JSON], View())
    return tuple(Wanted(target=target) for target in value)


class _RecordCommand(click.Command):
    """Prints wrong usage as JSON too, where that is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        given = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if "--json" in given:
                _print_failure(error.format_message(), ExitStatus.USAGE, View())
            raise


@click.command(cls=_RecordCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="TARGET...",
    shell_complete=open_feed_names,
    # before the options: a run config has defaults for them
    is_eager=True,
    callback=_read_targets,
)
@click.option(
    "--out",
    "-o",
    type=FolderType(file_okay=False, path_type=Path),
    default="captures",
    show_default=True,
    help="Folder to record into.",
)
@click.option(
    "--symbols",
    multiple=True,
    callback=comma_list,
    shell_complete=symbol_names,
    metavar="SYM,...",
    help="Symbols; all: every one that the exchange lists; @FILE: those in a file. [default: the feed's]",
)
@click.option("--shard", type=ShardType(), help="Take one of several equal, stable shares of the symbols: 3/16.")
@click.option(
    "--channels",
    multiple=True,
    callback=comma_list,
    shell_complete=channel_names,
    metavar="CH,...",
    help="trades, book, bbo, ticker or the exchange's names. [default: the feed's]",
)
@click.option("--subscribe", multiple=True, metavar="TEXT", help="URL targets: send this once connected. Repeatable.")
@click.option("--duration", type=DurationType(), help="Stop this long after the first connection opened: 30s, 1h30m.")
@click.option("--until", type=UntilType(), help="Stop at this time: 17:30, 2026-11-22T17:30:00Z. UTC.")
@click.option("--until-close", is_flag=True, help="Stop when the exchange closes normally (code 1000), as replays do.")
@click.option(
    "--rotate",
    type=RotateType(),
    default="1h,1GiB",
    show_default=True,
    help="When a file ends: a duration, a size, or both. Every hour ends one.",
)
@click.option(
    "--cpu", "cpus", type=CpusType(), default=(), help="Processors to receive on; several: one receiver each."
)
@click.option("--writer-cpu", type=click.IntRange(0), help="Processor to write on.")
@click.option("--rt-priority", type=click.IntRange(1, 99), help="SCHED_FIFO priority of the receivers.")
@click.option(
    "--busy-poll", is_flag=True, help="Read without pause instead of waiting: quickest, and takes a whole processor."
)
@click.option(
    "--tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    default=TlsMode.STAMPED.value,
    show_default=True,
    help="stamped: kernel stamps, decrypted by OpenSSL. ktls: decrypted by the kernel, no stamps. openssl: neither. "
    "auto: stamped where there are stamps, else ktls, else openssl.",
)
@click.option("--ca-file", type=click.Path(path_type=Path), help="PEM file of a CA to trust besides the system's.")
@proxy_options
@click.option(
    "--ring-size",
    type=RingSizeType(),
    default=AUTO,
    show_default=True,
    help="Receive ring of each connection, a power of two of at least 64KiB; "
    "auto: 8MiB, or less where more than 32 share 256MiB.",
)
@click.option(
    "--max-message",
    type=SizeType(),
    default="64MiB",
    show_default=True,
    callback=_message_size,
    help="Largest message accepted.",
)
@click.option(
    "--batch",
    type=DurationType(),
    default="100ms",
    show_default=True,
    help="Longest time before a message is journalled.",
)
@click.option(
    "--batch-size", type=SizeType(), default="8MiB", show_default=True, help="Bytes that are journalled at once."
)
@click.option(
    "--fsync", type=DurationType(), default="1s", show_default=True, help="Time between two syncs of the journal."
)
@click.option(
    "--takeover",
    is_flag=True,
    help="Where a recorder holds DIR: record beside it, end it once all is connected, and go on alone.",
)
@click.option(
    "--if-free",
    is_flag=True,
    help="Where a recorder holds DIR: end at once with status 0 in place of 75, for crontabs.",
)
@click.option(
    "--reserve",
    type=SizeType(),
    help="Disk space to keep free for others: with less the disk counts as full. [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary, or why nothing started, as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing unless something is wrong.")
def record(
    targets: tuple[Wanted, ...],
    out: Path,
    symbols: tuple[str, ...],
    shard: Shard | None,
    channels: tuple[str, ...],
    subscribe: tuple[str, ...],
    duration: float | None,
    until: datetime | None,
    until_close: bool,
    rotate: Rotation,
    cpus: tuple[int, ...],
    writer_cpu: int | None,
    rt_priority: int | None,
    busy_poll: bool,
    tls: str,
    ca_file: Path | None,
    proxy: str | None,
    no_proxy: bool,
    ring_size: int | None,
    max_message: int,
    batch: float,
    batch_size: int,
    fsync: float,
    takeover: bool,
    if_free: bool,
    reserve: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Record exchange feeds until stopped: every byte, six timestamps a frame, into Parquet.

    TARGET is a feed of the catalogue (`wsrec feeds list`), a feed's YAML file, a ws:// or wss:// URL, with NAME= before
    it or named after its host, or the word demo: a synthetic exchange on this machine. Or it is one run config: a YAML
    file of feeds and options, each of which the command line overrides.

    \b
    Examples:
      wsrec record demo --duration 10s
      wsrec record binance --symbols BTC/USDT,ETH/USDT --channels trades,book --cpu 2 --busy-poll
      wsrec record binance --symbols all --channels book --shard 3/16
      wsrec record binance binance-usdm --until 17:30 --out /data/captures
      wsrec record binance --out /data/captures --takeover
      wsrec record binance --out /data/captures --quiet --if-free
      wsrec record run.yaml --duration 10m
      wsrec record wss://host/path --subscribe '{"op":"subscribe","args":["trades"]}'
      wsrec record spot=wss://host/spot perp=wss://host/perp

    Ctrl-C and SIGTERM finish the files. --takeover needs no pause: both record until the new one holds the folder, then
    the old one is done (status 0). Where none holds it, it is an ordinary start. Options read WSREC_RECORD_* variables.

    \b
    Exit status: 0 clean and complete; 1 failed; 2 wrong usage or config; 3 nothing was received;
    4 recorded, but with gaps or a lost interval; 75 another recorder holds the output.
    """
    view = View(quiet=quiet)
    if duration is not None and until is not None:
        duration, until = _typed_end(duration, until)
    if duration is not None and until is not None:
        _fail("--duration and --until: give one of them", ExitStatus.USAGE, as_json, view)
    if takeover and if_free:
        _fail("--takeover and --if-free: give one of them", ExitStatus.USAGE, as_json, view)
    seconds = None if until is None else (until - datetime.now(UTC)).total_seconds()
    options = RecordOptions(
        out=out,
        until=None if seconds is None else time.monotonic() + seconds,
        duration=duration,
        cpus=cpus,
        writer_cpu=writer_cpu,
        rt_priority=rt_priority,
        busy_poll=busy_poll,
        tls=TlsMode(tls),
        ca_file=ca_file,
        proxies=proxy_rules(proxy, no_proxy),
        ring_size=ring_size,
        max_message=max_message,
        rotate_seconds=rotate.seconds,
        rotate_bytes=rotate.bytes,
        batch_seconds=batch,
        batch_bytes=batch_size,
        fsync_seconds=fsync,
        reserve=reserve or 0,
        until_close=until_close,
        takeover=takeover,
    )
    try:
        with view, held(interrupt()):
            outcome = record_targets(
                [_narrowed(each, symbols, channels, subscribe) for each in targets],
                options,
                view=view,
                shard=shard,
            )
    except Interrupted as interrupted:
        _fail(str(interrupted), ExitStatus.NOTHING, as_json, view)
    except ConfigError as error:
        _fail(str(error), ExitStatus.USAGE, as_json, view)
    except OutputLockedError as error:
        if if_free:
            view.conclude(*([] if as_json or quiet else [f"nothing to do: {error}"]), style="")
            if as_json:
                _print_failure(str(error), ExitStatus.COMPLETE, view)
            return
        hint = (
            "take it over with --takeover, stop that one, choose another --out, or say --if-free if that is no failure"
        )
        _fail(f"{error}; {hint}", ExitStatus.LOCKED, as_json, view)
    except DemoError as error:
        _fail(str(error), ExitStatus.FAILED, as_json, view)
    except OSError as error:
        _fail(_cannot_start(error, out), ExitStatus.FAILED, as_json, view)
    why = reason(outcome)
    view.conclude(*([] if why is None else [f"wsrec record: {why}"]))
    if as_json:
        print_result(msgspec.json.encode(outcome).decode(), view.outlet)
    elif not quiet:
        print_result(describe(outcome), view.outlet)
    raise click.exceptions.Exit(outcome.status)


def _cannot_start(error: OSError, out: Path) -> str:
    """What the system refused, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # a write names no file
        where = "" if error.filename else f" ({out})"
        return f"the output cannot be written: {error}{where}; make room there, or give --out a folder on another disk"
    # one with a file's name is about the output, the others are about processes, descriptors and memory
    hint = "give --out a folder that this user can write to" if error.filename else "see `ulimit -a` and `free`"
    return f"{error}; {hint}"


def _typed_end(duration: float, until: datetime) -> tuple[float | None, datetime | None]:
    """Both, or the one that was given where the other is only a run config's."""
    source = click.get_current_context().get_parameter_source
    if source("duration") is ParameterSource.DEFAULT_MAP:
        return None, until
    if source("until") is ParameterSource.DEFAULT_MAP:
        return duration, None
    return duration, until


def _narrowed(
    wanted: Wanted, symbols: tuple[str, ...], channels: tuple[str, ...], subscribe: tuple[str, ...]
) -> Wanted:
    """What is wanted of a target, with what the command line says in place of what the run config said."""
    return replace(
        wanted,
        symbols=symbols or wanted.symbols,
        channels=channels or wanted.channels,
        subscribe=subscribe or wanted.subscribe,
    )


def _fail(message: str, status: ExitStatus, as_json: bool, view: View) -> NoReturn:
    view.conclude(*(f"wsrec record: {line}" for line in message.split("\n")))
    if as_json:
        _print_failure(message, status, view)
    raise click.exceptions.Exit(int(status))


def _print_failure(message: str, status: ExitStatus, view: View) -> None:
    # cleaned for JSON too: a file's name may hold what is no UTF-8
    error = "\n".join(clean(line, 2000) for line in message.split("\n"))
    print_result(msgspec.json.encode({"status": int(status), "error": error}).decode(), view.outlet)
