"""The command `wsrec doctor`."""

from __future__ import annotations

import click
import msgspec
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wsrec.cli.command import Command
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.config.click_types import ValueParam
from wsrec.host.processor import interfaces
from wsrec.options.value_types import Processors
from wsrec.supervise.doctor import Finding, State, examine
from wsrec.supervise.preconditions import check_cpus
from wsrec.terminal_tables import print_table
from wsrec.units import clean, printable

_COLOURS = {State.OK: "green", State.HINT: "yellow", State.ABSENT: "dim"}


def _complete_interface(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in interfaces() if name.startswith(incomplete)]


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cpu",
    "cpus",
    type=ValueParam(Processors()),
    default=(),
    help="Processors to check in detail, as in `record --cpu`.",
)
@click.option(
    "--interface",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete_interface,
    help="Network interface to check. Repeatable. [default: all hardware interfaces]",
)
@output_format("Print a JSON array of findings.")
def doctor(cpus: tuple[int, ...], names: tuple[str, ...], form: OutputFormat) -> None:
    """Check this machine for recording: timestamps, TLS, clock, processors, limits. Changes nothing.

    \b
    Examples:
      wsrec doctor
      wsrec doctor --cpu 2 --interface eth0
      wsrec doctor --format markdown
      wsrec doctor --json | jq '.[] | select(.state == "hint") | .hint'

    \b
    States of a finding:
      ok      nothing to do
      hint    works, but could be better: the hint says how
      absent  not available on this machine

    Exit status: 0, with or without hints; 2 wrong usage; 74 standard output cannot be written.
    """
    check_cpus("cpu", cpus)
    findings = examine(cpus, names)
    match form:
        case OutputFormat.JSON:
            click.echo(printable(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode()))
        case OutputFormat.TABLE:
            _print(findings)
        case _:
            print_listing(_listing(findings), form)


def _listing(findings: list[Finding]) -> Listing:
    rows = [(each.state, each.subject, each.found, each.meaning, each.hint) for each in findings]
    return Listing([Column(name) for name in ("state", "subject", "found", "meaning", "hint")], rows)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        words = f"{escape(clean(finding.found))}: {escape(clean(finding.meaning))}"
        if finding.hint is not None:
            words += f"\n[bold]{escape(clean(finding.hint))}[/bold]"
        colour = _COLOURS[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/{colour}]", escape(clean(finding.subject)), words)
    print_table(table, Console(highlight=False))
