"""`wsrec replay` as a function: serve sources or the synthetic market until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from wsrec.replay.job import DEMO, Endpoint, ReplayOptions
from wsrec.replay.live import MarketExchange
from wsrec.replay.market import Market
from wsrec.replay.server import Exchange, serve
from wsrec.replay.tls import self_signed

if TYPE_CHECKING:
    from wsrec.replay.source import Source

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def run(options: ReplayOptions, announce: Callable[[Endpoint], None], *, stop_on: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or until `stop_on` is readable.

    Args:
        options: what to serve and how.
        announce: called once when clients can connect.
        stop_on: a descriptor (a pipe) that stops the server, instead of signals, when it is readable or closed.

    Raises:
        SourceError: a source cannot be read; possibly only while it is played.
        ServeError: cannot listen on the address.
        TlsError: the CA's certificate cannot be written.

    """
    # the source is read before the event loop starts: opening a large capture takes a while
    source = None
    if options.sources != (DEMO,):
        # imported late: the demo market does not need the code that reads captures
        from wsrec.replay.source import Source

        source = Source(options.sources)
    with contextlib.nullcontext() if stop_on is not None else _handlers_kept():
        uvloop.run(_serve(options, source, announce, stop_on))


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Give the signals of this process back as they were: a closed loop of uvloop keeps them, and drops them."""
    before = {number: signal.getsignal(number) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not installed from Python, which cannot give it back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


async def _serve(
    options: ReplayOptions, source: Source | None, announce: Callable[[Endpoint], None], stop_on: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if stop_on is not None:
        loop.add_reader(stop_on, _stop_reading, loop, stop_on, stop)
    else:
        for number in _STOPPING:
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
        from wsrec.replay.recording import RecordingExchange

        yield RecordingExchange(source, speed=options.speed, loop=options.loop)
        return
    async with MarketExchange(Market(seed=options.seed, rate=options.rate)) as exchange:
        yield exchange
