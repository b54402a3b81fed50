"""The `wsrec` command."""

from __future__ import annotations

import click

from wsrec import __version__
from wsrec.cli.bench import bench
from wsrec.cli.doctor import doctor
from wsrec.cli.feeds import feeds
from wsrec.cli.record import record
from wsrec.cli.recover import recover
from wsrec.cli.replay import replay
from wsrec.cli.report import report
from wsrec.cli.verify import verify


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WSREC", "max_content_width": 100}
)
@click.version_option(__version__, prog_name="wsrec")
def main() -> None:
    """Record exchange WebSocket feeds, byte for byte and stamped at six stages, into Parquet you can trust.

    \b
    First capture:        wsrec record demo --duration 10s
    Where the time went:  wsrec report captures
    Is it complete:       wsrec verify captures
    A real exchange:      wsrec record binance --symbols BTC/USDT
    This machine:         wsrec doctor
    Completion (bash):    eval "$(_WSREC_COMPLETE=bash_source wsrec)"
    """


main.add_command(record)
main.add_command(report)
main.add_command(verify)
main.add_command(recover)
main.add_command(replay)
main.add_command(feeds)
main.add_command(doctor)
main.add_command(bench)
