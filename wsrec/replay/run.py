"""`wsrec replay`: serve sources or the synthetic market until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from wsrec.replay.live import MarketExchange
from wsrec.replay.market import Market
from wsrec.replay.recording import RecordingExchange
from wsrec.replay.server import Exchange, serve
from wsrec.replay.source import Source
from wsrec.replay.tls import self_signed

DEMO = "demo"


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve and how.

    Attributes:
        sources: files, folders and globs; or `demo` alone for the synthetic market.
        host: address to listen on.
        port: 0 for a free one.
        tls_self_signed: serve `wss://` with a certificate made at start.
        ca_out: where to write its CA's certificate; None: a temporary folder, removed at the end.
        speed: how many times the recorded pace; None: as fast as the clients read. Recordings only.
        loop: start over at the end. Recordings only.
        rate: mean messages a second. `demo` only.
        seed: of the market's random numbers. `demo` only.
        ping_interval: s between protocol pings; None: none.
        wait_subscribe: start a client's stream at its first subscription.

    """

    sources: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 0
    tls_self_signed: bool = False
    ca_out: str | None = None
    speed: float | None = 1.0
    loop: bool = False
    rate: float = 1000.0
    seed: int = 1
    ping_interval: float | None = None
    wait_subscribe: bool = False


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is served.

    Attributes:
        source: what is served.
        url: `ws://` or `wss://`, address and port; any path may follow.
        ca_file: PEM file that a client has to trust; None without TLS.

    """

    source: str
    url: str
    ca_file: str | None


def run(options: ReplayOptions, announce: Callable[[Endpoint], None], *, stop_on: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or until `stop_on` says so.

    Args:
        options: what to serve and how.
        announce: called once when clients can connect.
        stop_on: a descriptor (a pipe): something to read in it, or its end, stops instead of signals.

    Raises:
        SourceError: a source cannot be read; also when this shows only while it is played.
        ServeError: the address cannot be listened on.
        TlsError: the CA's certificate cannot be written.

    """
    # the source is read before the event loop starts: opening a large capture takes a while
    source = None if options.sources == (DEMO,) else Source(options.sources)
    uvloop.run(_serve(options, source, announce, stop_on))


async def _serve(
    options: ReplayOptions, source: Source | None, announce: Callable[[Endpoint], None], stop_on: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if stop_on is not None:
        loop.add_reader(stop_on, _stop_reading, loop, stop_on, stop)
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(_exchange(options, source))
        tls, ca_file = None, None
        if options.tls_self_signed:
            ca_out = Path(options.ca_out) if options.ca_out else None
            tls, ca_file = stack.enter_context(self_signed(options.host, ca_out))
        server = await stack.enter_async_context(
            serve(
                exchange,
                host=options.host,
                port=options.port,
                tls=tls,
                wait_subscribe=options.wait_subscribe,
                ping_interval=options.ping_interval,
            )
        )
        name = source.name if source else DEMO
        announce(Endpoint(source=name, url=server.url, ca_file=str(ca_file) if ca_file else None))
        stopped = asyncio.create_task(stop.wait())
        ends: list[asyncio.Future[Any]] = [stopped, server.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if server.failed.done():
            server.failed.result()


def _stop_reading(loop: asyncio.AbstractEventLoop, descriptor: int, stop: asyncio.Event) -> None:
    loop.remove_reader(descriptor)  # the end of a pipe stays readable for ever
    stop.set()


@contextlib.asynccontextmanager
async def _exchange(options: ReplayOptions, source: Source | None) -> AsyncIterator[Exchange]:
    if source is not None:
        yield RecordingExchange(source, speed=options.speed, loop=options.loop)
        return
    async with MarketExchange(Market(seed=options.seed, rate=options.rate)) as exchange:
        yield exchange
