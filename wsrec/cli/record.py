"""The command `wsrec record`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from wsrec.cli.command import Command
from wsrec.cli.completed_values import OF_OPTIONS, open_feed_names
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.proxy_option import proxy_rules
from wsrec.config.sources import PLACES, explained, source
from wsrec.feed.errors import ConfigError
from wsrec.feed.masking import mask_in_text
from wsrec.format.errors import OtherVersionError
from wsrec.format.lock import OutputLockedError
from wsrec.options.option import declared
from wsrec.options.record import SECTIONS, Output, RecordOptions, Selection
from wsrec.supervise.last_lines import LastLines
from wsrec.supervise.outcome import ExitStatus, describe, reason
from wsrec.supervise.outlet import print_result
from wsrec.supervise.preconditions import check_free
from wsrec.supervise.signals import Interrupted, held, interrupt
from wsrec.units import clean

if TYPE_CHECKING:
    from wsrec.net.proxy import ProxyRules
    from wsrec.plan.target import Wanted
    from wsrec.supervise.live import View

_OPTIONS = declared(*SECTIONS)


def _read_targets(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...] | tuple[Wanted, ...]:
    """The targets; for a run config, its feeds, and its settings become the options' defaults."""
    if ctx.resilient_parsing:
        # shell completion: it needs the names
        return value
    for target in value:
        if not target.endswith((".yaml", ".yml")):
            continue
        from wsrec.config.run_config import load_run

        run = load_run(Path(target))
        if run is None:
            continue
        if len(value) > 1:
            raise ConfigError(f"{target}: a run config is recorded alone; name the others under its `feeds`")
        ctx.default_map = run.settings
        ctx.meta[PLACES] = run.places
        return run.wanted
    return value


class _RecordCommand(Command):
    """Does not wait for a terminal that accepts nothing, as the recording does not."""

    def refuse(self, name: str, why: str, status: int, *, as_json: bool) -> None:
        _tell(why, status, as_json, LastLines())


@click.command(cls=_RecordCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="TARGET...",
    shell_complete=open_feed_names,
    # before the options: a run config sets their defaults
    is_eager=True,
    callback=_read_targets,
)
@click_options(_OPTIONS, **OF_OPTIONS)
def record(targets: tuple[str, ...] | tuple[Wanted, ...], **given: Any) -> None:
    """Record exchange feeds into Parquet until stopped: every byte, six timestamps per frame.

    TARGET is a feed of the catalogue (`wsrec feeds list`), a feed's YAML file, a ws:// or wss:// URL (NAME=URL names
    the feed; the default is the host's name), or the word demo: a synthetic exchange on this machine. A single TARGET
    can also be a run config: a YAML file of feeds and options. Options on the command line override it.

    \b
    Examples:
      wsrec record demo --duration 10s
      wsrec record binance --symbols BTC/USDT,ETH/USDT --channels trades,book --cpu 2 --wait spin
      wsrec record binance --symbols all --channels book --shard 3/16
      wsrec record binance binance-usdm --until 17:30 --out /data/captures
      wsrec record binance --out /data/captures --takeover
      wsrec record binance --out /data/captures --quiet --if-free
      wsrec record run.yaml --duration 10m
      wsrec record wss://host/path --subscribe '{"op":"subscribe","args":["trades"]}'
      wsrec record spot=wss://host/spot perp=wss://host/perp

    Ctrl-C and SIGTERM finish the files. --takeover replaces a running recorder without a pause: both record until the
    new one has the folder, then the old one exits with status 0. If no recorder is running, it has no effect. Every
    option can also be set by a variable WSREC_RECORD_*.

    \b
    Exit status: 0 clean and complete; 1 failed; 2 wrong usage or config; 3 nothing was received;
    4 recorded, but with gaps or a lost interval; 66 the output folder has another version of the format;
    74 complete, but the summary cannot be written; 75 another recorder is using the output folder.
    """
    output = taken(Output, given)
    log = LastLines(output.log_format)
    try:
        values = settled(_OPTIONS, given)
        options, selection = taken(RecordOptions, values), taken(Selection, values)
        rules = proxy_rules(options.proxy, options.no_proxy)
        # of a run config that takes long to read, the plan comes first
        check_free([target for target in targets if isinstance(target, str)], options, selection, rules)
    except ConfigError as error:
        _fail(explained(error, click.get_current_context(), "wsrec record"), ExitStatus.USAGE, output.json, log)
    except OutputLockedError as error:
        _leave_held(error, options, output, log)
    except OtherVersionError as error:
        _fail(_other_version(error), ExitStatus.UNREADABLE, output.json, log)
    _record(targets, options, selection, rules, output)


def _record(
    targets: tuple[str, ...] | tuple[Wanted, ...],
    options: RecordOptions,
    selection: Selection,
    rules: ProxyRules,
    output: Output,
) -> NoReturn:
    # what takes long to import
    from wsrec.plan.target import Wanted
    from wsrec.replay.demo import DemoError
    from wsrec.supervise.live import View
    from wsrec.supervise.record import record as record_targets

    as_json, quiet = output.json, output.quiet
    wanted = [Wanted(target=target) if isinstance(target, str) else target for target in targets]
    view = View(quiet=quiet, log_format=output.log_format)
    try:
        with view, held(interrupt()):
            outcome = record_targets(wanted, options, selection, proxies=rules, view=view)
    except Interrupted as interrupted:
        _fail(str(interrupted), ExitStatus.NOTHING, as_json, view)
    except ConfigError as error:
        _fail(explained(error, click.get_current_context(), "wsrec record"), ExitStatus.USAGE, as_json, view)
    except OutputLockedError as error:
        _leave_held(error, options, output, view)
    except OtherVersionError as error:
        _fail(_other_version(error), ExitStatus.UNREADABLE, as_json, view)
    except DemoError as error:
        _fail(str(error), ExitStatus.FAILED, as_json, view)
    except OSError as error:
        _fail(_cannot_start(error, options.out), ExitStatus.FAILED, as_json, view)
    why = reason(outcome)
    view.conclude(*([] if why is None else [f"wsrec record: {why}"]))
    printed = True
    if as_json:
        printed = print_result(msgspec.json.encode(outcome).decode(), view.outlet)
    elif not quiet:
        printed = print_result(describe(outcome), view.outlet)
    _leave(outcome.status, printed=printed)


def _leave_held(error: OutputLockedError, options: RecordOptions, output: Output, view: View | LastLines) -> NoReturn:
    """End, because another recorder holds the output folder."""
    if not options.if_free:
        hint = "take it over with --takeover, stop it, choose another --out, or use --if-free if this is not a failure"
        _fail(f"{error}; {hint}", ExitStatus.LOCKED, output.json, view)
    view.conclude(*([] if output.json or output.quiet else [f"nothing to do: {error}"]), style="")
    printed = not output.json or _print_failure(str(error), ExitStatus.COMPLETE, view)
    _leave(ExitStatus.COMPLETE, printed=printed)


def _other_version(error: OtherVersionError) -> str:
    return f"{error}; choose another --out for this wsrec"


def _leave(status: int, *, printed: bool) -> NoReturn:
    # a worse status says more
    raise click.exceptions.Exit(int(status if printed or status else ExitStatus.UNPRINTED))


def _cannot_start(error: OSError, out: Path) -> str:
    """An error message with a hint for an operating system error."""
    named, why = source(click.get_current_context(), "out"), error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # an error of a write has no file name
        where = error.filename or out
        return f"{named}: cannot write {where}: {why}; make room there, or name a folder on another disk"
    # with a file name it is about the output, without about processes, descriptors or memory
    if error.filename:
        unwritable = f"found {error.filename!r}, which cannot be written ({why})"
        return f"{named}: {unwritable}, expected a folder that this user can write to"
    return f"{why}; see `ulimit -a` and `free`"


def _fail(message: str, status: ExitStatus, as_json: bool, view: View | LastLines) -> NoReturn:
    _tell(message, status, as_json, view)
    raise click.exceptions.Exit(int(status))


def _tell(message: str, status: int, as_json: bool, view: View | LastLines) -> None:
    message = mask_in_text(message)
    view.conclude(*(f"wsrec record: {line}" for line in message.split("\n")))
    if as_json:
        _print_failure(message, status, view)


def _print_failure(message: str, status: int, view: View | LastLines) -> bool:
    # cleaned for JSON too: a file name need not be UTF-8
    error = "\n".join(clean(line, 2000) for line in message.split("\n"))
    return print_result(msgspec.json.encode({"status": int(status), "error": error}).decode(), view.outlet)
