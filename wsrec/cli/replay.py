"""The command `wsrec replay`."""

from __future__ import annotations

import logging
import math
import sys

import click
import msgspec

from wsrec.cli.command import Command, CommandError
from wsrec.config.click_types import IntegerParam, NumberParam, PathParam, SourceType
from wsrec.feed.errors import ConfigError
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE
from wsrec.replay.job import DEMO, Endpoint, ReplayOptions
from wsrec.replay.message import NoSourceError, SourceError, UnreadableSourceError
from wsrec.replay.run import run
from wsrec.replay.server import ServeError
from wsrec.replay.tls import TlsError, UnwritableCaError


def _speed(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    if value == "max":
        return math.inf
    try:
        speed = float(value)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise click.BadParameter(f"found {value!r}, expected a positive number or max")
    return speed


@click.command(name="replay", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=SourceType(DEMO))
@click.option(
    "--port",
    type=IntegerParam(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--tls-self-signed", is_flag=True, help="Serve wss:// with a certificate made at the start.")
@click.option(
    "--ca-out",
    type=PathParam(dir_okay=False),
    help="File for the CA's certificate (PEM). [default: a temporary file, removed at the end]",
)
@click.option(
    "--speed",
    metavar="NUMBER|max",
    callback=_speed,
    help="Multiple of the recorded pace, or `max`: as fast as clients read. [default: 1]",
)
@click.option("--loop", is_flag=True, help="Repeat the recording without end.")
@click.option(
    "--rate",
    type=NumberParam(0, min_open=True),
    help="demo: mean messages per second, over all subscribed streams. [default: 1000]",
)
@click.option("--seed", type=int, help="demo: random seed of the market. [default: 1]")
@click.option(
    "--ping-interval",
    type=NumberParam(0, min_open=True),
    metavar="SECONDS",
    help="Send a WebSocket ping this often. [default: never]",
)
@click.option("--wait-subscribe", is_flag=True, help="Start sending to a client after its first subscription.")
@click.option("--json", is_flag=True, help="Print source, url and ca_file as one line of JSON once it is listening.")
def replay(
    sources: tuple[str, ...],
    port: int,
    host: str,
    tls_self_signed: bool,
    ca_out: str | None,
    speed: float | None,
    loop: bool,
    rate: float | None,
    seed: int | None,
    ping_interval: float | None,
    wait_subscribe: bool,
    json: bool,
) -> None:
    """Serve a capture, a text recording or a synthetic market over WebSocket, as an exchange does.

    SOURCE is a message file of a capture, a folder or glob pattern of them, a text recording (plain or gzip; formats
    in docs/how-to/replay.md), or the word demo for a synthetic Binance USD-M market. Every client gets the recording
    from its beginning, and subscriptions are acknowledged. SIGINT and SIGTERM stop the server.

    \b
    Examples:
      wsrec replay captures/                              # at the recorded pace
      wsrec replay captures/ --speed max --loop --port 9443
      wsrec replay demo --tls-self-signed --ca-out ca.pem --port 9443
      wsrec record wss://localhost:9443/stream --ca-file ca.pem \\
        --subscribe '{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'

    \b
    Exit status: 0 stopped; 1 a source is damaged, or the address cannot be listened on; 2 wrong usage, or a source
    does not exist; 3 no capture there, or no message in it; 66 a source cannot be read, or --ca-out not be written;
    74 standard output cannot be written.
    """
    demo = sources == (DEMO,)
    if DEMO in sources and not demo:
        raise ConfigError(f"{DEMO} is served alone; a file of that name is ./{DEMO}")
    if demo and (speed is not None or loop):
        raise ConfigError("--speed and --loop are for recordings; the pace of demo is --rate")
    if not demo and (rate is not None or seed is not None):
        raise ConfigError(f"--rate and --seed are for {DEMO}; the pace of a recording is --speed")
    if ca_out is not None and not tls_self_signed:
        raise ConfigError("--ca-out needs --tls-self-signed")
    options = ReplayOptions(
        sources=sources,
        host=host,
        port=port,
        tls_self_signed=tls_self_signed,
        ca_out=ca_out,
        speed=1.0 if speed is None else None if math.isinf(speed) else speed,
        loop=loop,
        rate=1000.0 if rate is None else rate,
        seed=1 if seed is None else seed,
        ping_interval=ping_interval,
        wait_subscribe=wait_subscribe,
    )

    def announce(endpoint: Endpoint) -> None:
        if json:
            click.echo(msgspec.json.encode(endpoint).decode())
        else:
            click.echo(f"serving {endpoint.source} at {endpoint.url}")
            if endpoint.ca_file:
                click.echo(f"CA certificate: {endpoint.ca_file}")
        sys.stdout.flush()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        run(options, announce)
    except (SourceError, ServeError, TlsError) as error:
        match error:
            case UnreadableSourceError() | UnwritableCaError():
                status = EXIT_UNREADABLE
            case NoSourceError():
                status = EXIT_NOTHING
            case _:
                status = 1
        raise CommandError(str(error), status) from error
