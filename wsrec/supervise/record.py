"""`wsrec record` as a function: targets in, outcome out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from wsrec.feed.errors import ConfigError, OptionError
from wsrec.feed.schema import Feed
from wsrec.feed.shard import Shard
from wsrec.feed.sockets import Socket
from wsrec.format.layout import own_folder
from wsrec.format.lock import OutputLock
from wsrec.format.output_version import check_output
from wsrec.ipc import FailedLine, LogLine
from wsrec.net.proxy import ProxyRules
from wsrec.options.record import RecordOptions, Selection
from wsrec.plan.connections import ConnectionPlan, plan, standbys
from wsrec.plan.target import ALL, Target, Wanted, resolve_all
from wsrec.replay.demo import DemoExchange, demo_exchange
from wsrec.replay.market import SYMBOLS
from wsrec.supervise import memory
from wsrec.supervise.free_space import FreeSpace
from wsrec.supervise.hooks import Hooks
from wsrec.supervise.live import View
from wsrec.supervise.log_lines import placing
from wsrec.supervise.outcome import Outcome
from wsrec.supervise.preconditions import DEMO, check_options
from wsrec.supervise.recent_log import RecentLog
from wsrec.supervise.redaction import redacting
from wsrec.supervise.service_manager import ServiceManager
from wsrec.supervise.state_sampler import StateSampler
from wsrec.supervise.status_server import serving
from wsrec.supervise.supervisor import Supervisor
from wsrec.supervise.takeover import recover_left, take_over
from wsrec.units import not_one_of, system_error

DEMO_FEED = "binance-usdm"
"""The feed that it imitates."""
# descriptors of a child or the supervisor: standard streams, pipes, the event loop, files, libraries
_DESCRIPTORS_BESIDE = 64
# period of sampling (s)
_TICK = 1.0


def record(
    wanted: Sequence[Wanted],
    options: RecordOptions,
    selection: Selection,
    *,
    proxies: ProxyRules,
    view: View,
) -> Outcome:
    """Record `wanted` into `options.out` and return the outcome.

    Args:
        wanted: catalogue feeds, YAML files, URLs, or `demo`.
        options: how to record.
        selection: symbols and channels; empty parts are those of `wanted`.
        proxies: the proxy rules for feeds that name no proxy.
        view: shows log lines and progress.

    Raises:
        ConfigError: a target or an option is not valid.
        OutputLockedError: another recorder holds the output folder.
        OtherVersionError: the output folder has files of another version of the format.
        OSError: the output folder cannot be written, or there is no process or memory available.
        wsrec.replay.demo.DemoError: the demo exchange did not start.

    """
    check_options(options)
    wanted = [_narrowed(each, selection) for each in wanted]
    with _resolved(wanted, options, selection.shard, proxies, view) as (chosen, options, demo):
        plans = plan(chosen, proxies=proxies)
        if not plans:
            raise ConfigError("the targets need no connection at all: choose other --symbols or --channels")
        check_descriptors(plans, max(len(options.cpu), 1))
        # before the lock, whose files would be the first change
        check_output(options.out)
        with OutputLock(options.out, takeover=options.takeover) as lock:
            check_writable(options.out)
            needed = memory.need_of(plans, receivers=max(len(options.cpu), 1), requested=options.ring_size)
            recent = RecentLog()
            hooks = Hooks(options, lambda line: log(line), lambda: lock.held)
            shown = recent.watching(hooks.watching(view.log))
            log = placing(redacting(shown, plans), plans)
            if (short := memory.shortage(needed)) is not None:
                log(LogLine(level="warning", message=short, hint=memory.HINT))
            for target in chosen:
                if target.listed is not None:
                    log(LogLine(level="info", message=str(target.listed), feed=target.feed.name))
            for message in proxies_reported(plans):
                log(LogLine(level="info", message=message))
            with hooks:
                if lock.held:
                    recover_left(options.out, log, [])
                supervisor = Supervisor(
                    shown_names(plans),
                    [target.feed for target in chosen],
                    plans,
                    options,
                    shown,
                    lock.fds,
                    at_end=hooks.finish,
                )
                return uvloop.run(_run(supervisor, recent, view, lock, demo, redacting(shown, plans)))


async def _run(
    supervisor: Supervisor,
    recent: RecentLog,
    view: View,
    lock: OutputLock,
    demo: DemoExchange | None,
    on_log: Callable[[LogLine], None],
) -> Outcome:
    space = FreeSpace(supervisor.options.out, supervisor.options.reserve or 0)
    sampler = StateSampler(supervisor, recent, space, lambda: lock.held)
    space.start()
    manager = ServiceManager(sampler)
    beside = [
        asyncio.ensure_future(task)
        for task in (view.follow(sampler.state, supervisor.log), _tick(sampler), manager.keep_informed())
    ]
    if not lock.held:
        beside.append(asyncio.ensure_future(take_over(supervisor, lock, supervisor.log, manager.replace_main)))
    if (where := supervisor.options.metrics) is not None:
        # imported here: an HTTP server takes as long to import as the rest of a poll
        from wsrec.supervise import metrics_server

        # its lines are about no feed
        serving = metrics_server.serve(where, sampler, on_log, lambda: not lock.held)
        beside.append(asyncio.ensure_future(serving))
    if demo is not None:
        beside.append(asyncio.ensure_future(_end_with(demo, supervisor)))
    try:
        async with answering(supervisor.options.out, sampler, supervisor.log):
            return await supervisor.run()
    finally:
        manager.end()
        space.stop()
        for task in beside:
            task.cancel()
        for task in beside:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _end_with(demo: DemoExchange, supervisor: Supervisor) -> None:
    """End the recording with its synthetic market, instead of trying to reconnect to it for ever."""
    message = f"the synthetic market {await demo.ended()}"
    supervisor.fail(FailedLine(message=message, hint="what it had sent is kept; record again"), "the market ended")


@contextlib.asynccontextmanager
async def answering(out: Path, sampler: StateSampler, on_log: Callable[[LogLine], None]) -> AsyncIterator[None]:
    """Answer `wsrec status` while the context is open; a recording goes on without, if the system refuses that."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(out, sampler.state))
        except OSError as error:
            message = f"`wsrec status` will get no answer: {system_error(error)}"
            on_log(LogLine(level="warning", message=message))
        yield


async def _tick(sampler: StateSampler) -> None:
    while True:
        sampler.tick()
        await asyncio.sleep(_TICK)


def _narrowed(wanted: Wanted, selection: Selection) -> Wanted:
    """A target's selection: the run config's, overridden by the command line."""
    typed = {name for name in ("symbols", "channels", "subscribe") if getattr(selection, name)}
    return replace(
        wanted,
        symbols=selection.symbols or wanted.symbols,
        channels=selection.channels or wanted.channels,
        subscribe=selection.subscribe or wanted.subscribe,
        places={field: place for field, place in wanted.places.items() if field not in typed},
    )


def checked_names(wanted: Sequence[Wanted], ca_file: str | None) -> list[str]:
    """The names of targets that can be recorded together, without requesting lists of symbols from exchanges.

    Args:
        wanted: as for `record`.
        ca_file: the option of this name, if it is given.

    Raises:
        ConfigError: one cannot be used, or not beside the others.

    """
    requested = [replace(each, symbols=tuple(symbol for symbol in each.symbols if symbol != ALL)) for each in wanted]
    if _is_demo(requested):
        _of_demo(requested, ca_file, None)
        return [DEMO]
    return [target.feed.name for target in resolve_all(requested)]


def shown_names(plans: Sequence[ConnectionPlan]) -> tuple[str, ...]:
    """The names of these connections' targets: a bare URL as it is, with its name if another one looks the same."""
    urls = [plan.public_url for plan in plans if not plan.topics]
    return tuple(
        dict.fromkeys(
            plan.feed
            if plan.topics
            else plan.public_url
            if urls.count(plan.public_url) == 1
            else f"{plan.feed}={plan.public_url}"
            for plan in plans
        )
    )


def proxies_reported(plans: Sequence[ConnectionPlan]) -> list[str]:
    """The proxies of these connections, and ignored environment variables; one line each."""
    through: dict[str, list[str]] = {}
    lines = []
    for one in plans:
        if (proxy := one.proxy) is not None:
            through.setdefault(f"through the proxy {proxy.public} ({proxy.source})", []).append(one.feed)
        elif (name := one.proxies.passed_over(one.url)) is not None and one.feed != DEMO:
            host = urlsplit(one.url).hostname
            lines.append(f"{host} is this machine: {name} does not apply to it, --proxy would")
    lines += [
        f"{', '.join(dict.fromkeys(feeds))}: {how}; stage 1 is the time of its segments"
        for how, feeds in through.items()
    ]
    return list(dict.fromkeys(lines))


@contextlib.contextmanager
def _resolved(
    wanted: Sequence[Wanted], options: RecordOptions, shard: Shard | None, proxies: ProxyRules, view: View
) -> Iterator[tuple[list[Target], RecordOptions, DemoExchange | None]]:
    """The targets and their options; for `demo` with a running exchange."""
    if not _is_demo(wanted):
        yield resolve_all(wanted, shard, proxies), options, None
        return
    target = _of_demo(wanted, options.ca_file, shard)

    def warn(text: str) -> None:
        view.log(LogLine(level="warning", message=f"the demo exchange: {text}", feed=DEMO, kind="stderr"))

    started = f"starting a synthetic market on this machine, to record it {_how_long(options)}"
    view.log(LogLine(level="info", message=started, feed=DEMO))
    with demo_exchange(warn) as demo:
        endpoint = demo.endpoint
        sockets = {name: Socket(url=f"{endpoint.url}/stream") for name in target.feed.sockets}
        feed = target.feed.model_copy(update={"name": DEMO, "sockets": sockets})
        assert endpoint.ca_file is not None
        yield [replace(target, feed=feed)], msgspec.structs.replace(options, ca_file=endpoint.ca_file), demo


def _how_long(options: RecordOptions) -> str:
    if options.duration is not None:
        return f"for {options.duration:g} s"
    return "until Ctrl-C" if options.until is None else f"until {options.until:%Y-%m-%d %H:%M:%S} UTC"


def _is_demo(wanted: Sequence[Wanted]) -> bool:
    """Whether the demo exchange is among the targets."""
    return any(each.target == DEMO for each in wanted)


def _of_demo(wanted: Sequence[Wanted], ca_file: str | None, shard: Shard | None) -> Target:
    """The demo as a target, with the addresses of the feed that it imitates.

    Raises:
        ConfigError: it cannot be recorded like this.

    """
    if len(wanted) > 1:
        raise ConfigError(f"{DEMO} brings its own exchange: record it alone, and others into another folder")
    if ca_file is not None:
        raise OptionError("ca_file", f"found it for {DEMO}, which brings its own CA: omit it")
    target = replace(wanted[0], target=DEMO_FEED).resolved(shard)
    for symbol in target.symbols:
        # it would confirm the subscription and send nothing, as the exchange does that it imitates
        if symbol not in SYMBOLS:
            as_typed = _as_typed(symbol, wanted[0].symbols, target.feed)
            problem = f"{DEMO} has no such symbol: {not_one_of(as_typed, [*SYMBOLS])}"
            raise wanted[0].located(OptionError("symbols", problem))
    return target


def _as_typed(symbol: str, typed: Sequence[str], feed: Feed) -> str:
    """A symbol as the user wrote it; the exchange's own notation if it came from a file or a list."""
    for text in typed:
        with contextlib.suppress(ConfigError):
            if feed.symbols is not None and feed.symbols.normalise(text) == symbol:
                return text
    return symbol


def check_descriptors(plans: Sequence[ConnectionPlan], receivers: int) -> None:
    """Check that this process and its children can open enough descriptors; raises the soft limit.

    Raises:
        ConfigError: the hard limit (RLIMIT_NOFILE, getrlimit(2)) is too low.

    """
    # each ring's memory has two descriptors here (created and mapped), and in the receiver there is the socket, too,
    # and a second one while two addresses are tried; standby connections count as connections
    spare = len(standbys(plans))
    share = -(-len(plans) // receivers)
    here = 2 * (len(plans) + spare) + 16 * receivers
    in_receiver = 4 * share + 3 * min(spare, share)
    feeds = len({plan.feed for plan in plans})
    needed = _DESCRIPTORS_BESIDE + max(here, in_receiver) + 4 * feeds
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"the planned connections ({len(plans)}) need {needed} file descriptors, and this process may open {hard}: "
            f"raise the limit (`ulimit -n {needed}`, LimitNOFILE={needed} in a systemd unit), "
            "or record fewer --symbols or --channels"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))


def check_writable(out: Path) -> None:
    """Check that files can be created in the output folder.

    Raises:
        OSError: they cannot.

    """
    probe = own_folder(out) / f"probe-{secrets.token_hex(8)}"
    probe.touch(exist_ok=False)
    probe.unlink()
